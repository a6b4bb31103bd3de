"""The keys of the Review tab. They work only while the tab is shown, and no napari layer or viewer uses them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from napari.settings import get_plugin_settings
from napari.utils.key_bindings import coerce_keybinding

from .session import PLUGIN


class Key(NamedTuple):
    """A key and its action.

    Attributes:
        action: name of the action, and of its preference in the manifest. People's settings files contain these names.
        binding: the key in napari's notation, such as "Shift-N".
        label: text beside the key in the key list; empty for the first key of a pair.
    """

    action: str
    binding: str
    label: str

    @property
    def text(self) -> str:
        """The key as it is shown to a person, such as "⇧N"."""
        return self.binding.replace("Shift-", "⇧")


KEYS = (
    Key("accept", "W", "accept"),
    Key("skip", "Q", "skip"),
    Key("issue", "U", "issue"),
    Key("next", "N", "next"),
    Key("previous", "Shift-N", "previous"),
    Key("take_back", "Shift-W", "take back"),
    Key("next_alike", "Shift-J", "next of this status"),
    Key("hide", "H", "hide"),
    Key("look", "G", "display"),
    Key("model", "J", "model’s mask"),
    Key("refine", "K", "refine"),
    Key("box", "Shift-K", "box"),
    Key("edit_outline", "Shift-O", "outline"),
    Key("smaller", ",", ""),
    Key("larger", ".", "brush"),
)

NAPARI_KEYS = (("P", "paint"), ("E", "erase"), ("F", "fill"), ("Ctrl+Z", "undo"), ("Space", "pan"))
"""Keys of napari that are needed for corrections; the key list shows them too."""


def preferred_keys() -> dict[str, Key]:
    """The keys by action, from napari's preferences; the default key where a preference is not a valid key."""
    preferences = get_plugin_settings(PLUGIN).review
    return {
        key.action: key._replace(binding=_valid_binding(getattr(preferences, key.action), key.binding)) for key in KEYS
    }


def key_list(keys: Iterable[Key]) -> str:
    """All keys with their labels, in one paragraph of rich text."""
    pairs = [(key.text, key.label) for key in keys] + list(NAPARI_KEYS)
    texts = (f"<b>{key}</b>&nbsp;{label.replace(' ', '&nbsp;')}" for key, label in pairs)
    return "&nbsp;· ".join(texts).replace("</b>&nbsp;&nbsp;·", "</b>")


class KeyBindings:
    """Binds the keys to layers and to the viewer. Keys of a layer have priority over keys of the viewer.

    Args:
        keys: by action.
        actions: the function to call, by action.
        hold: called with True when the key of "hide" is pressed, and with False when it is released.
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
        self._bound: list[tuple[Any, dict[str, Any]]] = []

    def bind(self, *targets: Any) -> None:
        """Bind the keys to `targets`, and unbind them from all other targets."""
        self.release()
        for target in targets:
            earlier = {key: target.bind_key(key, call, overwrite=True) for key, call in self._calls.items()}
            self._bound.append((target, earlier))

    def release(self) -> None:
        """Unbind all keys, and restore the earlier bindings."""
        for target, earlier in self._bound:
            for key, call in earlier.items():
                target.bind_key(key, call, overwrite=True)  # None unbinds
        self._bound.clear()


def _valid_binding(preferred: str, default: str) -> str:
    preferred = preferred.strip()
    return preferred if str(coerce_keybinding(preferred)).strip() else default


def _press(action: Callable[[], object]) -> Callable[[Any], None]:
    def press(target: Any) -> None:
        action()

    return press


def _hold(hold: Callable[[bool], None]) -> Callable[[Any], Iterator[None]]:
    def press(target: Any) -> Iterator[None]:
        hold(True)
        yield  # napari continues here when the key is released
        hold(False)

    return press
