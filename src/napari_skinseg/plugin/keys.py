"""The keys of review. None is a default of any napari layer or viewer, and they hold only while the tab is seen."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from napari.settings import get_plugin_settings
from napari.utils.key_bindings import coerce_keybinding

from .session import PLUGIN


class Key(NamedTuple):
    """One key and what it does.

    Attributes:
        action: name of what is done.
        binding: as napari spells it.
        words: what the strip says.
    """

    action: str
    binding: str
    words: str

    @property
    def shown(self) -> str:
        """As a person reads it."""
        return self.binding.replace("Shift-", "⇧")

    @property
    def preference(self) -> str:
        """What it is called in the manifest, where a person can choose another."""
        return self.action.replace(" ", "_")


KEYS = (
    Key("accept", "W", "accept"),
    Key("skip", "Q", "skip"),
    Key("issue", "U", "issue"),
    Key("next", "N", "next"),
    Key("previous", "Shift-N", "previous"),
    Key("take back", "Shift-W", "take back"),
    Key("next alike", "Shift-J", "next alike"),
    Key("hide", "H", "hide"),
    Key("look", "G", "look"),
    Key("model", "J", "model’s mask"),
    Key("refine", "K", "refine"),
    Key("smaller", ",", ""),
    Key("larger", ".", "brush"),
)

NAPARI_KEYS = (("P", "paint"), ("E", "erase"), ("F", "fill"), ("Ctrl+Z", "undo"), ("Space", "pan"))
"""napari's own, that a person needs here; the strip reminds of them."""


def chosen() -> dict[str, Key]:
    """The keys by their actions, as napari's preferences have them; ours where what is there is no key."""
    wished = get_plugin_settings(PLUGIN).review
    return {key.action: key._replace(binding=_binding(getattr(wished, key.preference), key.binding)) for key in KEYS}


def strip(keys: Iterable[Key]) -> str:
    """All keys in one paragraph of rich text."""
    pairs = [(key.shown, key.words) for key in keys] + list(NAPARI_KEYS)
    texts = (f"<b>{key}</b>&nbsp;{words.replace(' ', '&nbsp;')}" for key, words in pairs)
    return "&nbsp;· ".join(texts).replace("</b>&nbsp;&nbsp;·", "</b>")


class Bindings:
    """Holds the keys on whatever has a keymap: the layer in hand first, because layer keys beat viewer keys.

    Args:
        keys: by their actions.
        actions: what to call, by the name of the action.
        hold: called with True when the key of "hide" goes down, with False when it comes up.
    """

    def __init__(
        self,
        keys: Mapping[str, Key],
        actions: Mapping[str, Callable[[], object]],
        hold: Callable[[bool], None] = lambda is_down: None,
    ) -> None:
        self._calls: dict[str, Callable[[Any], Any]] = {
            key.binding: _hold(hold) if action == "hide" else _press(actions[action]) for action, key in keys.items()
        }
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


def _binding(wished: str, ours: str) -> str:
    wished = wished.strip()
    return wished if str(coerce_keybinding(wished)).strip() else ours


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
