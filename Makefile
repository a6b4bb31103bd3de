# Two commands do everything on a fresh Debian or macOS machine with Python 3.11 or newer:
#   make demo [IMAGES=folder-or-file]   segment your photos, or four generated ones, into demo-output/
#   make test                           everything that a change must pass; `make check` is the same without the tests
# On Windows use the commands in docs/install.md and CONTRIBUTING.md.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
IMAGES ?=
# pip does not compile: Python compiles only the modules that are used, when they are first imported. Installing torch takes
# 12 s of processor time instead of 37. So Python must be allowed to write compiled modules.
export PYTHONDONTWRITEBYTECODE :=
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all check docs screenshots format clean system-libraries
.DELETE_ON_ERROR:
# apt and pip work at the same time.
MAKEFLAGS += --jobs=2

demo: $(VENV)/.demo system-libraries
	$(BIN)/napari-skinseg demo $(if $(IMAGES),--images "$(IMAGES)") --out demo-output --view

test: $(VENV)/.test system-libraries
	@# The tests of the plugin open windows: on a virtual screen where there is X, directly on macOS.
	$$(command -v xvfb-run >/dev/null && echo xvfb-run -a) $(BIN)/python scripts/check.py

test-all: $(VENV)/.test system-libraries
	SKINSEG_WALK=all $$(command -v xvfb-run >/dev/null && echo xvfb-run -a) $(BIN)/python scripts/check.py --all

check: $(VENV)/.test
	$(BIN)/python scripts/check.py --quick

docs: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "Open build/docs/index.html"

screenshots: $(VENV)/.test system-libraries
	$$(command -v xvfb-run >/dev/null && echo xvfb-run -a -s '-screen 0 1600x1200x24') $(BIN)/python scripts/screenshots.py

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.demo: $(BIN)/python pyproject.toml constraints.txt
	$(call install,all)

$(VENV)/.test: $(BIN)/python pyproject.toml constraints.txt
	$(call install,test)
	@touch $(VENV)/.demo

system-libraries:
	bash scripts/system-libraries.sh

# torch first and pinned: otherwise pip may choose another build of torch, of several gigabytes.
define install
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --requirement constraints.txt
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt --editable ".[$(1)]"
	@touch $@
endef

$(BIN)/python:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Python 3.11 or newer is needed; found: $$("$(PYTHON)" --version 2>&1). Give its path: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@"$(PYTHON)" -m venv $(VENV) || { \
	    echo "Python's venv module is missing. On Debian or Ubuntu: sudo apt-get install --yes python3-venv" >&2; rm -rf $(VENV); exit 2; }
	@# The pip of an older Python needs three times as long to choose the versions.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"

clean:
	rm -rf demo-output build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
