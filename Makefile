# Two commands do everything on a fresh Debian or macOS machine with Python 3.11 or newer:
#   make demo [IMAGES=folder-or-file]   segment your photos, or four generated ones, into demo-output/
#   make test                           lint, types, architecture and tests
# On Windows use the pip lines in docs/install.md.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
IMAGES ?=
VENV := .venv
BIN := $(VENV)/bin
# One thread per test process is faster than two fighting over two cores, and gives the same numbers everywhere.
TEST_ENV := OMP_NUM_THREADS=1 MPLBACKEND=Agg

.PHONY: demo test format clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	$(BIN)/napari-skinseg demo $(if $(IMAGES),--images "$(IMAGES)") --out demo-output --view

test: $(VENV)/.test
	bash scripts/system-libraries.sh
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@# Tests open real windows: on a virtual screen where there is X, directly on macOS.
	$(TEST_ENV) $$(command -v xvfb-run >/dev/null && echo xvfb-run -a) bash scripts/run-tests.sh $(BIN)/python

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.demo: $(BIN)/python pyproject.toml constraints.txt
	bash scripts/system-libraries.sh
	$(call install,all)

$(VENV)/.test: $(BIN)/python pyproject.toml constraints.txt
	$(call install,test)
	@touch $(VENV)/.demo

# torch first and alone, pinned: pip then keeps this build instead of choosing among several, some of them gigabytes.
define install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[$(1)]"
	@touch $@
endef

$(BIN)/python:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Python 3.11 or newer is needed; found: $$("$(PYTHON)" --version 2>&1). Say which: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@"$(PYTHON)" -m venv $(VENV) || { \
	    echo "Python's venv module is missing. On Debian or Ubuntu: sudo apt-get install --yes python3-venv" >&2; rm -rf $(VENV); exit 2; }

clean:
	rm -rf demo-output build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
