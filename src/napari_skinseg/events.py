"""What a long verb tells its face (events out) and how the face stops it (cancel in)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from .errors import Cancelled


@dataclass(frozen=True)
class Event:
    """One step of a long run.

    Attributes:
        stage: what is being done, e.g. "segment", "train", "validate".
        done: units finished so far, out of `total`; `total` is 0 while it is not known.
        message: one line worth showing, or empty.
        values: figures worth plotting, e.g. {"loss": 0.21}.
    """

    stage: str
    done: int = 0
    total: int = 0
    message: str = ""
    values: Mapping[str, float] = field(default_factory=dict)


OnEvent = Callable[[Event], None]


class CancelToken(Protocol):
    """Anything with `is_set`; a `threading.Event` fits."""

    def is_set(self) -> bool: ...


class NeverCancelled:
    """The token of a run that nobody can cancel."""

    def is_set(self) -> bool:
        return False


def ignore_event(event: Event) -> None:
    """Take an event and do nothing with it."""


def raise_if_cancelled(cancel: CancelToken) -> None:
    """Raise `Cancelled` once the token is set; called at least once per batch."""
    if cancel.is_set():
        raise Cancelled
