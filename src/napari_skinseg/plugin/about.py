"""What this is: versions, device, model and licence, and a bug report that can be copied."""

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from napari.layers import Layer
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QDialogButtonBox, QMessageBox, QWidget

from napari_skinseg.models.bundle import ModelSpec

_PACKAGES = ("napari-skinseg", "napari", "npe2", "PySide6", "PyQt6", "qtpy", "torch", "monai", "numpy", "scikit-image")


def show_about(parent: QWidget, spec: ModelSpec | None, device: str, layers: Iterable[Layer]) -> None:
    """Show versions, device, model and licence; one button copies the bug report, without names and paths.

    Args:
        parent: the widget.
        spec: description of the chosen model; None if there is none.
        device: where the model runs, in words.
        layers: the layers of the viewer.
    """
    facts = describe(spec, device)
    box = QMessageBox(QMessageBox.Icon.NoIcon, "About napari-skinseg", "\n".join(facts), parent=parent)
    box.setInformativeText("Research tool, not a medical device. napari-skinseg has the licence BSD-3-Clause.")
    copy = box.addButton("&Copy bug report", QMessageBox.ButtonRole.ActionRole)
    copy.setToolTip("Copy these facts and the kinds and sizes of the layers. No names of photos, patients or folders.")
    box.addButton(QMessageBox.StandardButton.Close)
    for buttons in box.findChildren(QDialogButtonBox):
        buttons.clicked.disconnect()  # copying does not close the dialog
        buttons.rejected.connect(box.reject)
    copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(bug_report(facts, layers)))
    copy.clicked.connect(lambda: copy.setText("Copied"))
    box.exec()


def describe(spec: ModelSpec | None, device: str) -> list[str]:
    """Return versions, device, model and licence, one per line; torch is not imported."""
    versions = ", ".join(f"{name} {found}" for name in _PACKAGES if (found := _version(name)))
    model = "none" if spec is None else f"{spec.name}, licence {spec.licence}"
    # The system's name, not the computer's.
    system = f"Python {platform.python_version()}, {platform.system()} {platform.release()} {platform.machine()}"
    return [versions, system, f"Device: {device}", f"Model: {model}"]


def bug_report(facts: Iterable[str], layers: Iterable[Layer]) -> str:
    """Return `facts` and the kind, shape and type of each layer, without its name, path or metadata."""
    kinds = [f"{layer._type_string} {_shape(layer)}" for layer in layers]
    return "\n".join([*facts, "Layers: " + ("; ".join(kinds) or "none"), "", "What I did:", "What happened:"])


def _shape(layer: Layer) -> str:
    data = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
    return f"{getattr(data, 'shape', len(data))} {getattr(data, 'dtype', '')}".strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
