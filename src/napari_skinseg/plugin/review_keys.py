"""The keys of review. None is a default of any napari layer or viewer, and they hold only while reviewing."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple


class Key(NamedTuple):
    """One key and what it does.

    Attributes:
        action: name of what is done.
        binding: as napari spells it.
        shown: as a person reads it.
        words: what the strip says.
    """

    action: str
    binding: str
    shown: str
    words: str


KEYS = (
    Key("accept", "W", "W", "accept"),
    Key("skip", "Q", "Q", "skip"),
    Key("issue", "U", "U", "issue"),
    Key("next", "N", "N", "next"),
    Key("previous", "Shift-N", "⇧N", "previous"),
    Key("take back", "Shift-W", "⇧W", "take back"),
    Key("next alike", "Shift-J", "⇧J", "next alike"),
    Key("hide", "H", "H", "hide"),
    Key("look", "G", "G", "look"),
    Key("model", "J", "J", "model’s mask"),
    Key("smaller", ",", ",", ""),
    Key("larger", ".", ".", "brush"),
)

NAPARI_KEYS = (("P", "paint"), ("E", "erase"), ("F", "fill"), ("Ctrl+Z", "undo"), ("Space", "pan"))
"""napari's own, that a person needs here; the strip reminds of them."""


def shown(action: str) -> str:
    """The key of an action, for a tooltip."""
    return next(key.shown for key in KEYS if key.action == action)


def strip() -> str:
    """All keys in one paragraph of rich text."""
    pairs = [(key.shown, key.words) for key in KEYS] + list(NAPARI_KEYS)
    texts = (f"<b>{key}</b>&nbsp;{words.replace(' ', '&nbsp;')}" for key, words in pairs)
    return "&nbsp;· ".join(texts).replace("</b>&nbsp;&nbsp;·", "</b>")


class Bindings:
    """Holds the keys on whatever has a keymap: the layer in hand first, because layer keys beat viewer keys.

    Args:
        actions: what to call, by the name of the action.
        hold: called with True when the key of "hide" goes down, with False when it comes up.
    """

    def __init__(self, actions: Mapping[str, Callable[[], object]], hold: Callable[[bool], None]) -> None:
        self._calls: dict[str, Callable[[Any], Any]] = {
            key.binding: _press(actions[key.action]) for key in KEYS if key.action != "hide"
        }
        self._calls[next(key.binding for key in KEYS if key.action == "hide")] = _hold(hold)
        self._held: list[tuple[Any, dict[str, Any]]] = []

    def bind(self, *targets: Any) -> None:
        """Take the keys on `targets`, and give back what was taken on others."""
        self.release()
        for target in targets:
            earlier = {key: target.bind_key(key, call, overwrite=True) for key, call in self._calls.items()}
            self._held.append((target, earlier))

    def release(self) -> None:
        """Give every key back to whoever had it."""
        for target, earlier in self._held:
            for key, call in earlier.items():
                target.bind_key(key, call, overwrite=True)  # None unbinds
        self._held.clear()


def _press(action: Callable[[], object]) -> Callable[[Any], None]:
    def press(target: Any) -> None:
        action()

    return press


def _hold(hold: Callable[[bool], None]) -> Callable[[Any], Iterator[None]]:
    def press(target: Any) -> Iterator[None]:
        hold(True)
        yield  # napari goes on here when the key comes up
        hold(False)

    return press
