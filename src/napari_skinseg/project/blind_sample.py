"""The blind sample of a project: how much does seeing the model's mask pull a person towards it?"""

from collections.abc import Sequence
from dataclasses import dataclass

from napari_skinseg.pixels.metrics import Summary, summarise

from .records import Photo


@dataclass(frozen=True)
class BlindSample:
    """How masks drawn without seeing the model's differ from it, against those drawn with it in view.

    Attributes:
        blind: Dice with the model's mask over the photos of the blind sample.
        shown: the same over the others.
    """

    blind: Summary
    shown: Summary

    def in_words(self) -> str:
        """One sentence; empty without a blind sample."""
        if not self.blind.n or self.blind.mean is None:
            return ""
        text = f"Blind sample: {_agreement(self.blind)}"
        return f"{text}; with the model's mask in view: {_agreement(self.shown)}." if self.shown.n else f"{text}."


def blind_sample(photos: Sequence[Photo]) -> BlindSample:
    """Compare the photos drawn blind with the others, over those that a person finished and a model predicted."""
    finished = [photo for photo in photos if photo.status in ("corrected", "accepted") and photo.dice is not None]
    return BlindSample(
        *(summarise(photo.dice for photo in finished if photo.blind is blind) for blind in (True, False))
    )


def _agreement(summary: Summary) -> str:
    interval = "" if summary.low is None or summary.n < 2 else f" (95 % {summary.low:.3f}-{summary.high:.3f})"
    masks = "1 mask agrees" if summary.n == 1 else f"{summary.n} masks agree"
    return f"{masks} with the model by Dice {summary.mean:.3f}{interval}"
