"""Exit codes of the command line, described in docs/segment.md."""

DONE = 0
SOME_FAILED = 1
"""Some photos failed, and their names were printed; the others are done."""
BAD_INPUT = 2
"""The input or an option is wrong, or no photo could be used."""
BUG = 70
"""An error in napari-skinseg; EX_SOFTWARE of sysexits.h."""
INTERRUPTED = 130
"""Stopped with Ctrl+C; all files that were written are complete. 128 + SIGINT, as in shells."""
