"""Segment skin lesions in dermoscopic photos, correct the masks, fine-tune and evaluate models.

A research tool, not a medical device. The public names are imported on first use, because importing torch takes
seconds and `import napari_skinseg` must be fast.
"""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from .evaluation.evaluate import evaluate as evaluate
    from .finetuning.finetune import fine_tune as fine_tune
    from .measurement.measure import measure as measure
    from .models.store import load_model as load_model
    from .segmentation.segmenter import Segmenter as Segmenter
    from .training.train import train as train

__all__ = ["Segmenter", "evaluate", "fine_tune", "load_model", "measure", "train"]

# ONNX Runtime's wheels for Linux, such as those of 1.32, report their use to Microsoft when it is imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

if "torch" not in sys.modules:
    # Threads that wait for work must sleep. By default they poll, and one busy program beside them makes each step of
    # training several times slower. OpenMP reads these variables when torch is imported; values that the user set stay.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("KMP_BLOCKTIME", "0")  # Intel's and LLVM's OpenMP, on Windows and macOS

_MODULE_OF_NAME = {
    "Segmenter": ".segmentation.segmenter",
    "evaluate": ".evaluation.evaluate",
    "fine_tune": ".finetuning.finetune",
    "load_model": ".models.store",
    "measure": ".measurement.measure",
    "train": ".training.train",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # 20 ms

        return version("napari-skinseg")
    if name not in _MODULE_OF_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF_NAME[name], __name__), name)
