"""Run everything that a change must pass: lint, format, types, imports, dependencies, documentation, tests.

    python scripts/check.py [--quick | --all]

Uses the programs of the Python environment that runs it. `--quick` leaves out the tests,
and without `--all` the slow ones are left out. On Linux, `make test` calls
this script on a virtual screen, because the tests of the plugin open windows.
"""

import os
import subprocess
import sys
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ALL = "--all" in sys.argv[1:]
ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = Path(sysconfig.get_path("scripts"))

CHECKS = {
    "types": ["mypy"],
    "documentation": ["mkdocs", "build", "--strict", "--quiet"],
    "lint": ["ruff", "check", "."],
    "format": ["ruff", "format", "--check", "."],
    "imports": ["lint-imports", "--no-logo"],
    "dependencies of the package": ["deptry", "src", "--optional-dependencies-dev-groups", "test,docs"],
    "dependencies of tests, benchmarks and scripts": ["deptry", "."],
}
MODELS = ["tests/models", "tests/finetuning", "tests/cli", "tests/batch"]
TOOLS = ["tests/plugin/correct", "tests/plugin/finetune", "tests/plugin/manifest"]
TESTS = {
    "tools": TOOLS,
    "models": MODELS,
    "plugin": [f"--ignore={folder}" for folder in TOOLS] + ["tests/plugin"],
    "other": [f"--ignore={folder}" for folder in ("tests/plugin", *MODELS)],
}
"""Processes of pytest, two at a time, the longest first: each keeps one core busy."""

# One thread per process is faster than processes that compete for the cores, and gives the same numbers everywhere.
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "LP_NUM_THREADS": "0",  # Mesa's software OpenGL
    "MPLBACKEND": "Agg",
    "NO_MKDOCS_2_WARNING": "1",
    "PYTHONUTF8": "1",
}


def main() -> int:
    start = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        # The tests need not wait for the slowest check, which keeps only one core busy.
        jobs = [pool.submit(_check, *one) for one in CHECKS.items()]
        if "--quick" not in sys.argv[1:]:
            jobs += [pool.submit(_test, *one) for one in TESTS.items()]
        passed = all(job.result() for job in jobs)
    _print(f"{'Passed' if passed else 'FAILED'} in {time.monotonic() - start:.0f} s")
    return 0 if passed else 1


def _check(name: str, command: list[str]) -> bool:
    """Run one check; print its output only if it fails."""
    start = time.monotonic()
    done = subprocess.run(
        [PROGRAMS / command[0], *command[1:]],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    failed = done.returncode != 0
    _print(f"{'FAILED' if failed else 'ok    '} {name}, {time.monotonic() - start:.0f} s" + f"\n{done.stdout}" * failed)
    return not failed


def _test(name: str, arguments: list[str]) -> bool:
    """Run one part of the tests; print each line when it is complete, with the name of the part before it."""
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", "--durations=15", *([] if ALL else ["-m", "not slow"]), *arguments],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            _print(f"{name:6} | {line.rstrip()}")
    return process.returncode == 0


def _print(text: str) -> None:
    """Print in one write, so that lines of two threads do not mix."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
