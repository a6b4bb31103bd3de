"""`python -m napari_skinseg` runs the command `napari-skinseg`."""

import sys

from napari_skinseg.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
