"""The order in which photos are reviewed: the masks that are most likely wrong first, or another order.

A doubt score ranks the predicted masks. It adds weights for a low expected overlap, an uncertain border, several
pieces, contact with the frame, and no lesion at all; an unusual size adds to it too. The weights are chosen by hand:
the score ranks masks and measures nothing. The order "mixed" is for choosing *training* photos: half of them are
random, because whole-image uncertainty alone can be worse than a random choice (arXiv 2401.16298).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

Order = Literal["least certain", "mixed", "random", "file"]

_MAX_SIDE = 512  # px; larger masks are subsampled to about this size
_BAND = 0.02  # of the diagonal; half the width of the border band in which the entropy is averaged
_NO_LESION = 3.0  # more than all other weights together
_OUTLIER = 3.5  # robust z-score from which a size is unusual (Iglewicz & Hoaglin 1993)
_OUTLIER_WEIGHT = 0.4


class Doubt(NamedTuple):
    """How doubtful a predicted mask is: the score (0 = not at all, above 1 = very) and the strongest reason."""

    score: float
    reason: str


class QueueItem(NamedTuple):
    """A photo in the queue, and the reason for its place."""

    photo: str
    reason: str


@dataclass(frozen=True)
class Queue:
    """An order of photos. Later decisions and predictions do not change it, and any thread may read it."""

    items: tuple[QueueItem, ...]
    order: Order

    def __post_init__(self) -> None:
        object.__setattr__(self, "_places", {item.photo: place for place, item in enumerate(self.items)})

    def __len__(self) -> int:
        return len(self.items)

    def place(self, photo: str) -> int | None:
        """The position of a photo, from 0; None if it is not in the queue."""
        places: Mapping[str, int] = self._places  # type: ignore[attr-defined]
        return places.get(photo)

    def first(self, wanted: set[str]) -> str | None:
        """The first of the `wanted` photos; None if none of them is in the queue."""
        return next((item.photo for item in self.items if item.photo in wanted), None)

    def with_more(self, photos: Sequence[str]) -> "Queue":
        """A queue with these photos added at the end, except those that are in it already."""
        new = tuple(QueueItem(photo, "added during the session") for photo in photos if self.place(photo) is None)
        return Queue((*self.items, *new), self.order)


def doubt(mask: NDArray[np.bool_], confidence: float | None, probability: NDArray[np.float32] | None = None) -> Doubt:
    """The doubt score of one predicted mask.

    Args:
        mask: bool `[H, W]`.
        confidence: the Jaccard that the model expects, in [0, 1]; of an empty mask, that of the outline withheld.
        probability: float32 `[H, W]`, optional; its entropy near the border then adds to the score.
    """
    factor = max(1, max(mask.shape) // _MAX_SIDE)
    small = mask[::factor, ::factor]
    if not small.any():
        # First of all, because a missed lesion is the worst error; those with the highest confidence come first.
        return Doubt(_NO_LESION + (confidence or 0), "no lesion found")
    causes = []
    if confidence is not None:
        causes.append((1 - confidence, f"expected overlap {100 * confidence:.0f} %"))
    pieces = scipy.ndimage.label(small, structure=np.ones((3, 3)))[1]
    if pieces > 1:
        causes.append((0.3, f"{pieces} pieces"))
    if small[[0, -1]].any() or small[:, [0, -1]].any():
        causes.append((0.15, "touches the frame"))
    if probability is not None:
        entropy = border_entropy(probability[::factor, ::factor], small)
        causes.append((0.5 * entropy, f"uncertain border ({100 * entropy:.0f} %)"))
    score = sum(weight for weight, _ in causes)
    return Doubt(score, max(causes)[1] if causes else "no confidence given")


def border_entropy(probability: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """Mean binary entropy, in bits, of a probability map in a band along the mask's border: 0 = certain, 1 = random."""
    width = 2 * max(2, round(_BAND * float(np.hypot(*mask.shape)))) + 1
    mean = scipy.ndimage.uniform_filter(mask.astype(np.float32), width)
    band = (mean > 0.05) & (mean < 0.95)
    if not band.any():
        return 0.0
    p = np.clip(probability[band].astype(np.float64), 1e-6, 1 - 1e-6)
    return float((-p * np.log2(p) - (1 - p) * np.log2(1 - p)).mean())


class Candidate(NamedTuple):
    """What `arrange` needs to know of a photo.

    Attributes:
        photo: id.
        reviewed: whether a person gave it a status.
        score, reason: its doubt; None and "" without a prediction.
        share: fraction of the photo that the predicted lesion covers; None without a prediction.
    """

    photo: str
    reviewed: bool
    score: float | None
    reason: str
    share: float | None


def arrange(photos: Sequence[Candidate], order: Order = "least certain", seed: int = 0) -> Queue:
    """Make a queue of photos; photos that are reviewed already come last, in file order.

    Args:
        photos: in file order; photos without a prediction come after the predicted ones.
        order: "least certain" = by doubt score; "mixed" = every second photo is a random one; "random"; "file".
        seed: of the random order.
    """
    if order == "file":
        return Queue(tuple(QueueItem(one.photo, "in file order") for one in photos), order)
    unusual = _unusual_sizes(photos)
    open_ = [one for one in photos if not one.reviewed]
    doubtful = sorted(
        (one for one in open_ if one.score is not None),
        key=lambda one: -(one.score or 0.0) - (_OUTLIER_WEIGHT if one.photo in unusual else 0.0),
    )
    ranked = [QueueItem(one.photo, unusual.get(one.photo, one.reason)) for one in doubtful]
    ranked += [QueueItem(one.photo, "not predicted yet") for one in open_ if one.score is None]
    if order in ("random", "mixed"):
        shuffled = np.random.default_rng(seed).permutation(len(open_))
        random = [QueueItem(open_[place].photo, "random choice") for place in shuffled]
        ranked = random if order == "random" else _alternate(ranked, random)
    done = [QueueItem(one.photo, "reviewed already") for one in photos if one.reviewed]
    return Queue((*ranked, *done), order)


def _alternate(first: list[QueueItem], second: list[QueueItem]) -> list[QueueItem]:
    """Items of both lists in turn, each photo once."""
    mixed: dict[str, QueueItem] = {}
    for pair in zip(first, second, strict=True):
        for item in pair:
            mixed.setdefault(item.photo, item)
    return list(mixed.values())


def _unusual_sizes(photos: Sequence[Candidate]) -> dict[str, str]:
    """Photos whose predicted lesion is far larger or smaller than usual in this project, with a reason each."""
    known = [one for one in photos if one.share]
    if len(known) < 20:
        return {}
    logs = np.log([one.share or 1.0 for one in known])  # lesion sizes are roughly log-normal
    middle = np.median(logs)
    spread = np.median(np.abs(logs - middle)) / 0.6745
    return {
        one.photo: f"unusually {'large' if log > middle else 'small'} ({100 * (one.share or 0):.2g} % of the photo)"
        for one, log in zip(known, logs, strict=True)
        if abs(log - middle) > _OUTLIER * max(float(spread), 1e-6)
    }
