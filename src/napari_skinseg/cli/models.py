"""`napari-skinseg models …`: list, add, export, remove and choose models."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from napari_skinseg.models import export as convert
from napari_skinseg.models import store

from .options import Output
from .terminal import print_json, say

Kind = Literal["zip", "bundle", "torchscript", "onnx"]
_EXPORTS = {
    "zip": store.export,
    "bundle": convert.to_monai_bundle,
    "torchscript": convert.to_torchscript,
    "onnx": convert.to_onnx,
}

models = App(name="models", help="List, inspect, share and choose models.")


@models.command(name="list")
def list_models(*, output: Output = Output()) -> None:
    """List the models on this computer; a star marks the default."""
    default = store.default_name()
    found = store.list_models()
    if output.json:
        print_json([{**_about(model), "default": model.name == default} for model in found])
        return
    if not found:
        say("There is no model on this computer. To add one: napari-skinseg models add FILE")
        return
    table = RichTable(box=None, show_header=False, padding=(0, 1, 0, 0), pad_edge=False)
    for model in found:
        text = model.problem or (model.spec.description if model.spec else "")
        cells = ("*" if model.name == default else " ", model.name, model.origin, text)
        table.add_row(*(Text(cell) for cell in cells))
    # Do not wrap lines in a pipe or a file.
    Console(width=None if sys.stdout.isatty() else 10_000).print(table)


@models.command
def info(model: str | None = None, /, *, output: Output = Output()) -> None:
    """Show the description of a model, its training data, its licence and its scores.

    Args:
        model: Name or folder; the default model when not given.
    """
    about = _about(store.find(model or store.default_name()))
    if output.json:
        print_json(about)
        return
    for name, value in about.items():
        if value is None:
            continue
        lines = value.items() if isinstance(value, dict) else [("", value)]
        for key, line in lines:
            print(f"{name} {key}".strip().replace("_", " ") + f": {line}")


@models.command
def add(source: Path, /, *, name: str | None = None) -> None:
    """Check a model and add it, from its folder or a zip that `export` wrote.

    Args:
        source: Folder or zip.
        name: New name; the name of the model when not given.
    """
    added = store.add(source, name, say)
    print(f"{added.name} was added: {added.folder}")


@models.command
def export(model: str, target: Path = Path(), /, *, kind: Annotated[Kind, Parameter(name="--format")] = "zip") -> None:
    """Write a model to a zip file to share it, or to a format of other programs.

    Args:
        model: Name or folder.
        target: File to write (for a bundle: folder), or folder to write it to; the current folder when not given.
        kind: zip, for `models add`; bundle, which MONAI runs; torchscript; or onnx.
    """
    print(_EXPORTS[kind](model, target))


@models.command
def remove(model: str, /) -> None:
    """Delete one of your own models.

    Args:
        model: Name.
    """
    store.remove(model)
    print(f"{model} was removed.")


@models.command
def default(model: str | None = None, /) -> None:
    """Show or choose the default model, which is used when no model is named.

    Args:
        model: Name of the new default model.
    """
    if model is not None:
        store.set_default(model)
    print(store.default_name())


def _about(model: store.StoredModel) -> dict[str, Any]:
    spec = asdict(model.spec) if model.spec else {}
    return {"name": model.name, "origin": model.origin, "folder": model.folder, "problem": model.problem} | {
        key: value for key, value in spec.items() if key != "name"
    }
