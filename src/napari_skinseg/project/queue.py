"""In which order photos are reviewed, and why: the masks most likely to be wrong first, or something else by choice.

Doubt follows what goes wrong with outlines: a low expected overlap, an undecided border, several pieces, contact with
the frame, no lesion at all, a size unlike the others'. The weights are ours: they rank and measure nothing. For
choosing *training* photos a random half is mixed in: whole-image uncertainty alone can be worse than chance (arXiv
2401.16298).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Order = Literal["least certain", "mixed", "random", "file"]

_SIDE = 512  # px; pieces and borders are judged on a copy of about this size
_BAND = 0.02  # of the diagonal: half the width of the border band in which a probability counts
_NOTHING = 3.0  # more than all causes of doubt about an outline together
_OUTLIER = 3.5  # robust z-score from which a size is unlike the others' (Iglewicz & Hoaglin 1993)


class Doubt(NamedTuple):
    """How much there is to doubt about a predicted mask: 0 = nothing, above 1 = a lot, and the strongest reason."""

    score: float
    reason: str


class QueueItem(NamedTuple):
    """A photo's place in the queue and why it has it."""

    photo: str
    reason: str


@dataclass(frozen=True)
class Queue:
    """An order of photos that stays as it is, whatever is decided or predicted meanwhile. Immutable, so thread-safe."""

    items: tuple[QueueItem, ...]
    order: Order

    def __post_init__(self) -> None:
        object.__setattr__(self, "_places", {item.photo: place for place, item in enumerate(self.items)})

    def __len__(self) -> int:
        return len(self.items)

    def place(self, photo: str) -> int | None:
        """Where a photo stands, from 0; None if it is not in the queue."""
        places: Mapping[str, int] = self._places  # type: ignore[attr-defined]
        return places.get(photo)

    def step(self, photo: str, by: int = 1) -> str | None:
        """The photo `by` places further (back if negative); None beyond the ends."""
        here = self.place(photo)
        there = None if here is None else here + by
        return self.items[there].photo if there is not None and 0 <= there < len(self.items) else None

    def around(self, photo: str, ahead: int = 3, behind: int = 1) -> list[str]:
        """The photos worth preparing while `photo` is looked at, the likeliest first."""
        steps = [*range(1, ahead + 1), *range(-1, -behind - 1, -1)]
        return [found for by in steps if (found := self.step(photo, by)) is not None]

    def first(self, wanted: Iterable[str], after: str | None = None) -> str | None:
        """The first of the `wanted` photos, behind `after` and then from the start again; never `after` itself."""
        chosen = set(wanted)
        start = (self.place(after) if after is not None else None) or 0
        turned = (*self.items[start:], *self.items[:start])
        return next((item.photo for item in turned if item.photo in chosen and item.photo != after), None)

    def with_more(self, photos: Sequence[str]) -> "Queue":
        """The same queue with photos that were added since at its end."""
        new = tuple(QueueItem(photo, "added during the session") for photo in photos if self.place(photo) is None)
        return Queue((*self.items, *new), self.order)


def doubt(mask: NDArray[np.bool_], confidence: float | None, probability: NDArray[np.float32] | None = None) -> Doubt:
    """What there is to doubt about one predicted mask.

    Args:
        mask: bool `[H, W]`.
        confidence: the Jaccard that the model expects of its outline, in [0, 1]; of an empty mask, of the one withheld.
        probability: float32 `[H, W]` if it is at hand; its entropy near the border counts then.
    """
    factor = max(1, max(mask.shape) // _SIDE)
    small = mask[::factor, ::factor]
    if not small.any():
        # Before all others, the likeliest to hide a lesion first: a missed one is the worst of mistakes.
        return Doubt(_NOTHING + (confidence or 0), "no lesion found")
    causes = []
    if confidence is not None:
        causes.append((1 - confidence, f"expected overlap {100 * confidence:.0f} %"))
    pieces = ndimage.label(small, structure=np.ones((3, 3)))[1]
    if pieces > 1:
        causes.append((0.3, f"{pieces} pieces"))
    if small[[0, -1]].any() or small[:, [0, -1]].any():
        causes.append((0.15, "touches the frame"))
    if probability is not None:
        entropy = border_entropy(probability[::factor, ::factor], small)
        causes.append((0.5 * entropy, f"undecided border ({100 * entropy:.0f} %)"))
    score = sum(weight for weight, _ in causes)
    return Doubt(score, max(causes)[1] if causes else "no confidence given")


def border_entropy(probability: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """Mean entropy of a probability in a band along the mask's border, in [0, 1] (1 = as good as a coin)."""
    width = 2 * max(2, round(_BAND * float(np.hypot(*mask.shape)))) + 1
    mean = ndimage.uniform_filter(mask.astype(np.float32), width)
    band = (mean > 0.05) & (mean < 0.95)
    if not band.any():
        return 0.0
    p = np.clip(probability[band].astype(np.float64), 1e-6, 1 - 1e-6)
    return float((-p * np.log2(p) - (1 - p) * np.log2(1 - p)).mean())


class Candidate(NamedTuple):
    """What `arrange` looks at: a photo in file order."""

    photo: str
    reviewed: bool
    score: float | None
    reason: str
    share: float | None


def arrange(photos: Sequence[Candidate], order: Order = "least certain", seed: int = 0) -> Queue:
    """Put photos, given in file order, into a queue; what is reviewed already comes last, in file order.

    Args:
        photos: see `Candidate`; `score` None = not predicted yet, which comes after what is predicted.
        order: "least certain"; "mixed" = every second drawn at random; "random"; "file".
        seed: of what is drawn.
    """
    if order == "file":
        return Queue(tuple(QueueItem(one.photo, "in file order") for one in photos), order)
    odd = _unlike_the_others(photos)
    open_ = [one for one in photos if not one.reviewed]
    doubtful = sorted(
        (one for one in open_ if one.score is not None),
        key=lambda one: -(one.score or 0.0) - (0.4 if one.photo in odd else 0.0),
    )
    certain = [QueueItem(one.photo, odd.get(one.photo, one.reason)) for one in doubtful]
    certain += [QueueItem(one.photo, "not predicted yet") for one in open_ if one.score is None]
    if order in ("random", "mixed"):
        shuffled = np.random.default_rng(seed).permutation(len(open_))
        drawn = [QueueItem(open_[place].photo, "drawn at random") for place in shuffled]
        certain = drawn if order == "random" else _zip(certain, drawn)
    done = [QueueItem(one.photo, "reviewed already") for one in photos if one.reviewed]
    return Queue((*certain, *done), order)


def _zip(first: list[QueueItem], second: list[QueueItem]) -> list[QueueItem]:
    """One of each in turn, every photo once."""
    mixed: dict[str, QueueItem] = {}
    for pair in zip(first, second, strict=True):
        for item in pair:
            mixed.setdefault(item.photo, item)
    return list(mixed.values())


def _unlike_the_others(photos: Sequence[Candidate]) -> dict[str, str]:
    """Photos whose predicted lesion is far larger or smaller than usual in this project, with that as the reason."""
    known = [one for one in photos if one.share]
    if len(known) < 20:
        return {}
    logs = np.log([one.share or 1.0 for one in known])  # sizes of lesions are about log-normal
    middle = np.median(logs)
    spread = np.median(np.abs(logs - middle)) / 0.6745
    return {
        one.photo: f"unusually {'large' if log > middle else 'small'} ({100 * (one.share or 0):.2g} % of the photo)"
        for one, log in zip(known, logs, strict=True)
        if abs(log - middle) > _OUTLIER * max(float(spread), 1e-6)
    }
