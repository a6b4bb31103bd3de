"""Where models live on this computer: those in the package, and the user's own, by name.

A user's models are folders under `user_folder() / "models"`; nothing here needs the internet, and only `add` and
`load_model` need torch. A new model is copied to a temporary folder, loaded
once as a check, and only then renamed to its place.
"""

import json
import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from platformdirs import user_data_dir

from napari_skinseg.errors import BadInput
from napari_skinseg.files import atomic, make_output_folder, write_json, write_text

from . import bundle

BUNDLED_DEFAULT = "lesion-unet"
"""The model that is used until a person chooses another."""

_BUNDLED = Path(__file__).resolve().parents[1] / "weights"
_LIMITS = {bundle.METADATA: 2**20, bundle.WEIGHTS: bundle.MAX_WEIGHT_BYTES, bundle.CARD: 2**20}
"""The files of a model and the most bytes each may have; nothing else is ever taken in."""


@dataclass(frozen=True)
class StoredModel:
    """A model that can be chosen.

    Attributes:
        name: what to call it by; for a stored model its folder's name.
        folder: where its files are.
        origin: in the package, among the user's own, or any other folder.
        spec: what it is, or None where `problem` says why that cannot be read.
        problem: one sentence on why it cannot be used, or None.
    """

    name: str
    folder: Path
    origin: Literal["bundled", "user", "folder"]
    spec: bundle.ModelSpec | None
    problem: str | None = None


def list_models() -> list[StoredModel]:
    """List the bundled models and then the user's, each by name; a broken one is listed with its problem."""
    bundled = [_inspect(folder, "bundled") for folder in _folders(_BUNDLED)]
    taken = {model.name for model in bundled}
    users = [_inspect(folder, "user") for folder in _folders(_user_models())]
    clash = "has the name of a model that comes with napari-skinseg; rename its folder to use it."
    return bundled + [replace(m, problem=f"{m.folder} {clash}") if m.name in taken else m for m in users]


def find(name_or_path: str | Path) -> StoredModel:
    """Find a usable model by its name, else by the path of its folder.

    Raises:
        BadInput: there is none, it is broken, or it is a zip that has to be added first.
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
            f"{path} is a file, not a model's folder; add a packed model first: napari-skinseg models add {path}"
        )
    names = ", ".join(model.name for model in known if model.problem is None) or "none"
    raise BadInput(f"There is no model or folder {str(name_or_path)!r}; the models here are: {names}.")


def load_model(name_or_path: str | Path | None = None) -> bundle.Model:
    """Load a model by name or folder; None loads the default one.

    Raises:
        BadInput: see `find` and `bundle.load`.
    """
    return bundle.load(find(default_name() if name_or_path is None else name_or_path).folder)


def add(source: str | Path, name: str | None = None) -> StoredModel:
    """Add a model's folder or zip to the user's models, after loading it as a check.

    Args:
        source: a bundle's folder, or a zip of one as `export` makes it; its other files are left out.
        name: what to call it; None takes the name it brings.

    Raises:
        BadInput: it is no sound model, the archive is unsafe, the name is unusable or taken, or the user's folder
            cannot be written to. The models that stood before are untouched.
    """
    source = Path(source)
    models = make_output_folder(_user_models())
    staging = Path(tempfile.mkdtemp(prefix=".adding-", dir=models))
    try:
        _take_in(source, staging)
        spec = bundle.load(staging).spec
        name = _checked(name if name is not None else spec.name)
        if any(model.name == name for model in list_models()):
            raise BadInput(
                f"A model named {name!r} exists already; give {source} another name, or remove that one first."
            )
        spec = replace(spec, name=name)
        bundle.write_spec(staging, spec)
        if not (staging / bundle.CARD).exists():
            write_text(make_output_folder((staging / bundle.CARD).parent) / bundle.CARD.name, bundle.card_of(spec))
        staging.chmod(0o755)  # mkdtemp makes it private, but a shared machine's models are for everyone
        staging.rename(models / name)
    except BadInput as error:
        # The person knows the file they gave, not the folder it was checked in.
        raise BadInput(str(error).replace(str(staging), str(source))) from error
    except OSError as error:
        raise BadInput(f"{source} could not be added ({error.strerror or error}); nothing was changed.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return StoredModel(name, models / name, "user", spec)


def export(name: str | Path, target: str | Path) -> Path:
    """Pack a model into a zip that `add` takes; the same model always gives the same bytes.

    Args:
        name: of the model, or its folder.
        target: the zip to write, replaced whole when it exists; or a folder, for `<name>.zip` in it.

    Returns:
        The path of the zip.

    Raises:
        BadInput: there is no such model, or the zip cannot be written.
    """
    model = find(name)
    title = model.spec.name if model.origin == "folder" and model.spec else model.name
    target = Path(target)
    target = target / f"{title}.zip" if target.is_dir() else target
    make_output_folder(target.parent)
    with atomic(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for file in _LIMITS:
            if (model.folder / file).exists():
                # A fixed date and mode, and no compression of numbers that hardly compress: same model, same bytes.
                entry = zipfile.ZipInfo(str(PurePosixPath(title, file.as_posix())))
                entry.external_attr = (stat.S_IFREG | 0o644) << 16
                archive.writestr(entry, (model.folder / file).read_bytes())
    return target


def remove(name: str) -> None:
    """Delete one of the user's models; when it was the default, the bundled one is the default again.

    Raises:
        BadInput: there is no such model, it comes with the package, or its folder cannot be deleted.
    """
    models = [model for model in list_models() if model.name == name]
    own = next((model for model in models if model.origin == "user"), None)
    if own is None and models:
        raise BadInput(f"The model {name!r} comes with napari-skinseg and cannot be removed; choose one of your own.")
    if own is None:
        raise BadInput(f"There is no model {name!r} to remove.")
    try:
        # Renamed first: a deletion that breaks off half way must not leave half a model in the list.
        grave = Path(tempfile.mkdtemp(prefix=".removed-", dir=own.folder.parent))
        own.folder.rename(grave / "model")
        shutil.rmtree(grave, ignore_errors=True)
    except OSError as error:
        raise BadInput(f"{own.folder} could not be removed ({error.strerror or error}); close what uses it.") from error


def default_name() -> str:
    """Return the name of the model used when none is named: the chosen one while it is usable, else the bundled one."""
    usable = [model.name for model in list_models() if model.problem is None]
    chosen = _settings().get("default_model")
    if chosen in usable:
        return str(chosen)
    return usable[0] if usable and BUNDLED_DEFAULT not in usable else BUNDLED_DEFAULT


def set_default(name: str) -> None:
    """Use the model of this name from now on whenever none is named.

    Raises:
        BadInput: there is no usable model of that name, or the settings cannot be written.
    """
    if find(name).origin == "folder":
        raise BadInput(f"{name} is a folder; add it to your models first, then choose it by its name.")
    write_json(make_output_folder(user_folder()) / "settings.json", {**_settings(), "default_model": name})


def user_folder() -> Path:
    """Return the folder of the user's models and settings.

    The environment variable `NAPARI_SKINSEG_HOME` names another one, e.g. a group's on a shared machine.
    """
    chosen = os.environ.get("NAPARI_SKINSEG_HOME")
    return Path(chosen).expanduser() if chosen else Path(user_data_dir("napari-skinseg", appauthor=False))


def _user_models() -> Path:
    return user_folder() / "models"


def _folders(parent: Path) -> list[Path]:
    """Return the visible folders in `parent`, sorted; what is being added or removed starts with a dot."""
    if not parent.is_dir():
        return []
    return sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))


def _inspect(folder: Path, origin: Literal["bundled", "user", "folder"]) -> StoredModel:
    try:
        spec = bundle.read_spec(folder)
        if not (folder / bundle.WEIGHTS).is_file():
            raise BadInput(f"{folder} is a model without weights ({bundle.WEIGHTS} is missing); get the model again.")
    except BadInput as error:
        return StoredModel(folder.name, folder, origin, None, str(error))
    return StoredModel(folder.name, folder, origin, spec)


def _usable(model: StoredModel) -> StoredModel:
    if model.problem is not None:
        raise BadInput(model.problem)
    return model


def _settings() -> dict[str, object]:
    """Return the settings; damaged ones count as none, because a default model is no reason to stop."""
    try:
        settings = json.loads((user_folder() / "settings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}


_WINDOWS_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


def _checked(name: str) -> str:
    """Return `name` if it can be a folder's name on every system."""
    if not bundle.NAME_PATTERN.fullmatch(name) or name.endswith(".") or _WINDOWS_DEVICES.fullmatch(name):
        raise BadInput(
            f"{name!r} is no model name; use up to 64 of a-z, 0-9, dash and underscore, dots only in between."
        )
    return name


def _take_in(source: Path, target: Path) -> None:
    """Copy a model's files, and no others, from a folder or zip."""
    if source.is_dir():
        for file, limit in _LIMITS.items():
            path = source / file
            if path.is_symlink() or path.parent.is_symlink():
                raise BadInput(f"{path} is a link, not a file of the model; add the folder that holds the files.")
            if path.is_file():
                with path.open("rb") as stream:
                    _copy(stream, target / file, limit, f"{path}")
    elif source.is_file():
        with _opened(source) as archive:
            root = _root(archive, source)
            for file, limit in _LIMITS.items():
                entry = archive.NameToInfo.get(str(root / file.as_posix()))
                if entry is not None:
                    with archive.open(entry) as stream:
                        _copy(stream, target / file, limit, f"{source} ({file.name})")
    else:
        raise BadInput(f"{source} does not exist; name a model's folder or zip.")


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise BadInput(f"{path} is not a whole zip file ({error}); get the model again.") from error
    except (NotImplementedError, RuntimeError) as error:  # how zipfile reports exotic compression and encryption
        raise BadInput(f"{path} cannot be unpacked ({error}); pack it again as a plain zip.") from error


def _root(archive: zipfile.ZipFile, source: Path) -> PurePosixPath:
    """Check every path in the archive and return the folder that holds the one model."""
    roots = []
    for entry in archive.infolist():
        path = PurePosixPath(entry.filename)
        if path.is_absolute() or ".." in path.parts or ":" in entry.filename or "\\" in entry.orig_filename:
            raise BadInput(f"{source} holds a path that leads outside it ({entry.filename!r}); it is refused.")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise BadInput(f"{source} holds a link ({entry.filename!r}); it is refused, models are plain files.")
        if path.parts[-2:] == bundle.METADATA.parts and len(path.parts) <= 3:
            roots.append(path.parent.parent)
    if len(roots) != 1:
        raise BadInput(
            f"{source} holds {len(roots) or 'no'} models; a packed model holds one {bundle.METADATA.as_posix()}."
        )
    return roots[0]


def _copy(stream: IO[bytes], target: Path, limit: int, what: str) -> None:
    """Write `stream` to `target`, stopping at `limit` bytes whatever size an archive claims."""
    target.parent.mkdir(exist_ok=True)
    with target.open("wb") as out:
        while chunk := stream.read(2**20):
            limit -= len(chunk)
            if limit < 0:
                raise BadInput(f"{what} is larger than in any model of ours; it is refused.")
            out.write(chunk)
