"""The entry point of the command `napari-skinseg`, and the exit code of each error.

This module imports little, so that Ctrl+C ends a command with one sentence from its first instant.
"""

import os
import sys
from collections.abc import Sequence

from napari_skinseg.errors import BadInput, Cancelled

from .exit_codes import BAD_INPUT, BUG, DONE, INTERRUPTED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Errors are printed as one sentence, never as a traceback."""
    try:
        return _run(arguments)
    except BadInput as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except (KeyboardInterrupt, Cancelled):
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output, such as `head`, has ended; prevents a second error at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        from .terminal import report_crash

        report_crash(error)
        return BUG


def _run(arguments: Sequence[str] | None) -> int:
    from cyclopts import CycloptsError

    from .app import app

    try:
        return int(app(arguments, exit_on_error=False) or DONE)
    except CycloptsError:  # cyclopts has printed the error
        return BAD_INPUT
