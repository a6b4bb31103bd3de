"""`python -m napari_skinseg` is `napari-skinseg`."""

import sys

from napari_skinseg.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
