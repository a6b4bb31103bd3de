"""Find, add, export and remove models: those in the package and those of the user.

A user's models are folders under `user_folder() / "models"`; nothing here needs the internet, and only `add` and
`load_model` need torch. A new model is copied to a temporary folder, loaded once as a check, and only then moved to its
place.
"""

import json
import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from platformdirs import user_data_dir

from napari_skinseg.errors import BadInput
from napari_skinseg.files import atomic, make_output_folder, write_json, write_text

from . import bundle, onnx_file

BUNDLED_DEFAULT = "lesion-unet"
"""The default model until the user chooses another."""

_LIMITS = {
    bundle.METADATA: bundle.MAX_METADATA_BYTES,
    bundle.WEIGHTS: bundle.MAX_WEIGHT_BYTES,
    bundle.BASE_WEIGHTS: bundle.MAX_WEIGHT_BYTES,
    onnx_file.ONNX: onnx_file.MAX_BYTES,
    bundle.CARD: 2**20,
}
"""The files of a model and their maximum size in bytes; other files are never copied."""


@dataclass(frozen=True)
class StoredModel:
    """A model in the list of models.

    Attributes:
        name: name of the model, for bundled and user models the name of the folder.
        folder: the folder with the files.
        origin: in the package, among the models of the user, or in another folder.
        spec: description of the model, or None if it cannot be read.
        problem: one sentence why the model cannot be used, or None.
    """

    name: str
    folder: Path
    origin: Literal["bundled", "user", "folder"]
    spec: bundle.ModelSpec | None
    problem: str | None = None


def list_models() -> list[StoredModel]:
    """List the bundled models and then the user's models, sorted by name; a damaged model has a `problem`."""
    bundled = [_inspect(folder, "bundled") for folder in _folders(bundle.BUNDLED_MODELS)]
    taken = {model.name for model in bundled}
    users = [_inspect(folder, "user") for folder in _folders(_user_models())]
    clash = "has the name of a bundled model of napari-skinseg; rename the folder to use the model."
    return bundled + [replace(m, problem=f"{m.folder} {clash}") if m.name in taken else m for m in users]


def find(name_or_path: str | Path) -> StoredModel:
    """Find a usable model by its name or the path of its folder.

    Raises:
        BadInput: the model does not exist, is damaged, or is a zip file that must be added first.
    """
    known = list_models()
    for model in known:
        if model.name == str(name_or_path):
            return _usable(model)
    path = Path(name_or_path)
    if path.is_dir():
        return _usable(_inspect(path, "folder"))
    if path.is_file():
        raise BadInput(
            f"{path} is a file and not the folder of a model; add the file first: napari-skinseg models add {path}"
        )
    names = ", ".join(model.name for model in known if model.problem is None) or "none"
    raise BadInput(f"There is no model or folder {str(name_or_path)!r}; the models here are: {names}.")


def load_model(name_or_path: str | Path | None = None) -> bundle.Model:
    """Load a model by name or folder; None loads the default model.

    Raises:
        BadInput: see `find` and `bundle.load`.
    """
    return bundle.load(find(default_name() if name_or_path is None else name_or_path).folder)


def add(
    source: str | Path, name: str | None = None, on_message: Callable[[str], None] = lambda message: None
) -> StoredModel:
    """Add a model to the models of the user, after loading it as a check, with an ONNX file that was compared with it.

    Args:
        source: the folder of a bundle, or a zip file from `export`; other files in it are not copied.
        name: name of the added model; None keeps the name in its metadata.
        on_message: called with a sentence if the model has no ONNX file and none can be made.

    Raises:
        BadInput: the model is damaged, the archive is unsafe, the name is not valid or already used, or the folder of
            the user cannot be written to. The existing models are not changed.
    """
    source = Path(source)
    models = make_output_folder(_user_models())
    staging = Path(tempfile.mkdtemp(prefix=".adding-", dir=models))
    try:
        _copy_model(source, staging)
        spec = bundle.load(staging).spec
        name = _valid_name(name if name is not None else spec.name)
        if any(model.name == name for model in list_models()):
            raise BadInput(
                f"A model named {name!r} exists already; give {source} another name, or remove that model first."
            )
        from .onnx_export import write_onnx

        if problem := write_onnx(staging):
            on_message(problem.replace(str(staging), str(source)))
        spec = replace(spec, name=name)
        bundle.write_spec(staging, spec)
        if not (staging / bundle.CARD).exists():
            write_text(make_output_folder((staging / bundle.CARD).parent) / bundle.CARD.name, bundle.model_card(spec))
        staging.chmod(0o755)  # mkdtemp creates a private folder, but all users of a shared computer need the model
        staging.rename(models / name)
    except BadInput as error:
        # Name the file of the user instead of the temporary folder.
        raise BadInput(str(error).replace(str(staging), str(source))) from error
    except OSError as error:
        raise BadInput(f"{source} could not be added ({error.strerror or error}); nothing was changed.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return StoredModel(name, models / name, "user", spec)


def export(name: str | Path, target: str | Path) -> Path:
    """Pack a model into a zip file for `add`; the same model always gives the same bytes.

    Args:
        name: name or folder of the model.
        target: path of the zip file, which replaces an existing file; or a folder, for `<name>.zip` in it.

    Returns:
        The path of the zip file.

    Raises:
        BadInput: the model does not exist, or the zip file cannot be written.
    """
    model = find(name)
    title = model.spec.name if model.origin == "folder" and model.spec else model.name
    target = Path(target)
    target = target / f"{title}.zip" if target.is_dir() else target
    make_output_folder(target.parent)
    with atomic(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for file in _LIMITS:
            if (model.folder / file).exists():
                # A fixed date and mode, so that the bytes are always the same.
                # Nothing is compressed, because weights hardly compress.
                entry = zipfile.ZipInfo(str(PurePosixPath(title, file.as_posix())))
                entry.external_attr = (stat.S_IFREG | 0o644) << 16
                archive.writestr(entry, (model.folder / file).read_bytes())
    return target


def remove(name: str) -> None:
    """Delete a model of the user; if it was the default, the bundled model is the default again.

    Raises:
        BadInput: the model does not exist, is bundled, or its folder cannot be deleted.
    """
    models = [model for model in list_models() if model.name == name]
    own = next((model for model in models if model.origin == "user"), None)
    if own is None and models:
        raise BadInput(
            f"The model {name!r} comes with napari-skinseg and cannot be removed; choose a model that you added."
        )
    if own is None:
        raise BadInput(f"There is no model {name!r}; choose one of your models.")
    try:
        # Renamed before deletion, so that a deletion that fails leaves no incomplete model in the list.
        trash = Path(tempfile.mkdtemp(prefix=".removed-", dir=own.folder.parent))
        own.folder.rename(trash / "model")
        shutil.rmtree(trash, ignore_errors=True)
    except OSError as error:
        raise BadInput(
            f"{own.folder} could not be removed ({error.strerror or error}); close the programs that use it."
        ) from error


def default_name() -> str:
    """Return the name of the default model: the model that the user chose if it is usable, else the bundled model."""
    usable = [model.name for model in list_models() if model.problem is None]
    chosen = _settings().get("default_model")
    if chosen in usable:
        return str(chosen)
    return usable[0] if usable and BUNDLED_DEFAULT not in usable else BUNDLED_DEFAULT


def set_default(name: str) -> None:
    """Make the model of this name the default model.

    Raises:
        BadInput: no usable model has this name, or the settings cannot be written.
    """
    if find(name).origin == "folder":
        raise BadInput(f"{name} is a folder; add it to your models first, and then choose it by name.")
    write_json(make_output_folder(user_folder()) / "settings.json", {**_settings(), "default_model": name})


def user_folder() -> Path:
    """Return the folder of the user's models and settings.

    The environment variable `NAPARI_SKINSEG_HOME` sets another folder, e.g. the folder of a group on a shared computer.
    """
    chosen = os.environ.get("NAPARI_SKINSEG_HOME")
    return Path(chosen).expanduser() if chosen else Path(user_data_dir("napari-skinseg", appauthor=False))


def _user_models() -> Path:
    return user_folder() / "models"


def _folders(parent: Path) -> list[Path]:
    """Return the visible folders in `parent`, sorted; temporary folders start with a dot and are left out."""
    if not parent.is_dir():
        return []
    return sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))


def _inspect(folder: Path, origin: Literal["bundled", "user", "folder"]) -> StoredModel:
    try:
        spec = bundle.read_spec(folder)
        if not (folder / bundle.WEIGHTS).is_file():
            raise BadInput(f"{folder} has no weights ({bundle.WEIGHTS} is missing); get the model again.")
    except BadInput as error:
        return StoredModel(folder.name, folder, origin, None, str(error))
    return StoredModel(folder.name, folder, origin, spec)


def _usable(model: StoredModel) -> StoredModel:
    if model.problem is not None:
        raise BadInput(model.problem)
    return model


def _settings() -> dict[str, object]:
    """Return the settings; damaged settings are ignored, because they contain only the default model."""
    try:
        settings = json.loads((user_folder() / "settings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}


_WINDOWS_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


def _valid_name(name: str) -> str:
    """Return `name` if it is a valid folder name on every operating system."""
    if not bundle.NAME_PATTERN.fullmatch(name) or name.endswith(".") or _WINDOWS_DEVICES.fullmatch(name):
        raise BadInput(
            f"{name!r} is not a valid model name; use up to 64 of a-z, 0-9, dash and underscore, and dots between them."
        )
    return name


def _copy_model(source: Path, target: Path) -> None:
    """Copy only the files of a model from a folder or zip file."""
    if source.is_dir():
        for file, limit in _LIMITS.items():
            path = source / file
            if path.is_symlink() or path.parent.is_symlink():
                raise BadInput(f"{path} is a link and not a file; add the folder that contains the files.")
            if path.is_file():
                with path.open("rb") as stream:
                    _copy(stream, target / file, limit, f"{path}")
    elif source.is_file():
        with _open_zip(source) as archive:
            root = _model_root(archive, source)
            for file, limit in _LIMITS.items():
                entry = archive.NameToInfo.get(str(root / file.as_posix()))
                if entry is not None:
                    with archive.open(entry) as stream:
                        _copy(stream, target / file, limit, f"{source} ({file.name})")
    else:
        raise BadInput(f"{source} does not exist; give the folder or the zip file of a model.")


@contextmanager
def _open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise BadInput(f"{path} is not a complete zip file ({error}); get the model again.") from error
    except (NotImplementedError, RuntimeError) as error:  # unknown compression, encryption
        raise BadInput(f"{path} cannot be unpacked ({error}); pack it again without encryption.") from error


def _model_root(archive: zipfile.ZipFile, source: Path) -> PurePosixPath:
    """Check every path in the archive and return the folder of its only model."""
    roots = []
    for entry in archive.infolist():
        path = PurePosixPath(entry.filename)
        if path.is_absolute() or ".." in path.parts or ":" in entry.filename or "\\" in entry.orig_filename:
            raise BadInput(f"{source} contains a path that leads outside it ({entry.filename!r}); it is refused.")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise BadInput(f"{source} contains a link ({entry.filename!r}); it is refused; a model has no links.")
        if path.parts[-2:] == bundle.METADATA.parts and len(path.parts) <= 3:
            roots.append(path.parent.parent)
    if len(roots) != 1:
        raise BadInput(
            f"{source} contains {len(roots) or 'no'} models; give a zip file with one {bundle.METADATA.as_posix()}."
        )
    return roots[0]


def _copy(stream: IO[bytes], target: Path, limit: int, what: str) -> None:
    """Write `stream` to `target`, at most `limit` bytes: the size that an archive states may be wrong."""
    target.parent.mkdir(exist_ok=True)
    with target.open("wb") as out:
        while chunk := stream.read(2**20):
            limit -= len(chunk)
            if limit < 0:
                raise BadInput(f"{what} is larger than the limit for models; it is refused.")
            out.write(chunk)
