"""Outline skin lesions in dermoscopic photographs: segment, correct, teach.

A research tool, not a medical device. The names below are imported on first use, so that `import napari_skinseg` and
opening the plugin stay fast: torch alone takes seconds.
"""

import sys
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .evaluate import evaluate as evaluate
    from .models.store import load_model as load_model
    from .pixels.measure import measure as measure
    from .segment import Segmenter as Segmenter
    from .train import train as train

__version__ = version("napari-skinseg")
__all__ = ["Segmenter", "evaluate", "load_model", "measure", "train"]

_HOMES = {
    "Segmenter": ".segment",
    "evaluate": ".evaluate",
    "load_model": ".models.store",
    "measure": ".pixels.measure",
    "train": ".train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


class _Package(ModuleType):
    """A package whose exports win over submodules of the same name.

    A verb shares its name with its module, and Python would bind `napari_skinseg.train` to the module as soon as
    anything imports it: a name that is a function first and a module later helps nobody.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
