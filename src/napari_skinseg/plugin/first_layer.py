"""Load in a worker what napari loads with the first layer of a session."""

import time
from typing import Any

import numpy as np
import pint
from napari.layers import Image, Labels
from pint.registry import LazyRegistry


def prepare_first_layer() -> None:
    """Load units of length (pint), tables (pandas) and filters (SciPy); call this in a worker.

    Without it, the first layer stops the window for one to two seconds.
    """
    registry = pint.get_application_registry()
    if isinstance(registry.get(), LazyRegistry):
        units: Any = pint.UnitRegistry()
        # Not if a layer was added in between, because units of two registries cannot be compared.
        if isinstance(registry.get(), LazyRegistry):
            pint.set_application_registry(units)
    while not vars(registry.get()).get("_initialized"):
        time.sleep(0.05)  # another thread is loading the units for a layer, and they cannot be used yet
    Image(np.zeros((32, 32, 3), np.uint8), rgb=True)
    Labels(np.zeros((32, 32), np.uint8)).contour = 1
