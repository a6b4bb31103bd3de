"""Progress events of long actions, and their cancellation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from .errors import Cancelled


@dataclass(frozen=True)
class Event:
    """One step of a long action.

    Attributes:
        stage: the kind of step, e.g. "segment", "train", "validate".
        done: number of finished units out of `total`.
        total: number of units; 0 if not known.
        message: one line to show to the user, or empty.
        values: numbers to plot, e.g. {"loss": 0.21}.
    """

    stage: str
    done: int = 0
    total: int = 0
    message: str = ""
    values: Mapping[str, float] = field(default_factory=dict)


OnEvent = Callable[[Event], None]


class CancelToken(Protocol):
    """Any object with `is_set()`, such as a `threading.Event`; True means that the user wants to stop."""

    def is_set(self) -> bool: ...


class NeverCancelled:
    """The token of an action that cannot be cancelled."""

    def is_set(self) -> bool:
        return False


class AnyToken:
    """A token that is set when one of several tokens is."""

    def __init__(self, *tokens: CancelToken) -> None:
        self._tokens = tokens

    def is_set(self) -> bool:
        return any(token.is_set() for token in self._tokens)


def ignore_event(event: Event) -> None:
    """Do nothing: the default of `on_event`."""


def raise_if_cancelled(cancel: CancelToken) -> None:
    """Raise `Cancelled` if the token is set; actions call this at least once per batch."""
    if cancel.is_set():
        raise Cancelled
