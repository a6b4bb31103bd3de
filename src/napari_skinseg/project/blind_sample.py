"""The blind sample of a project: photos whose masks are drawn without seeing the model's mask.

Comparing them with the other photos shows how much a visible prediction changes what a person draws.
"""

import hashlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from napari_skinseg.pixels.metrics import Summary, summarise

from .records import Photo


@dataclass(frozen=True)
class BlindSample:
    """Agreement with the model, with and without seeing its mask.

    Attributes:
        blind: Dice between the person's and the model's masks over the photos of the blind sample.
        shown: the same over the other photos.
    """

    blind: Summary
    shown: Summary

    def in_words(self) -> str:
        """One sentence; empty without a blind sample."""
        if not self.blind.n or self.blind.mean is None:
            return ""
        text = f"Blind sample: {_agreement(self.blind)}"
        return f"{text}; with the model's mask in view: {_agreement(self.shown)}." if self.shown.n else f"{text}."


def compare_blind_sample(photos: Sequence[Photo]) -> BlindSample:
    """Compare the blind sample with the other photos, over those with a finished mask and a prediction."""
    finished = [photo for photo in photos if photo.status in ("corrected", "accepted") and photo.dice is not None]
    return BlindSample(
        *(summarise(photo.dice for photo in finished if photo.blind is blind) for blind in (True, False))
    )


def sample_settings(connection: sqlite3.Connection) -> tuple[float, int]:
    """The share of photos in the blind sample of this project, and the seed."""
    rows = connection.execute("SELECT name, value FROM facts WHERE name IN ('blind_share', 'blind_seed')")
    facts = dict(rows.fetchall())
    return float(facts.get("blind_share", 0)), int(facts.get("blind_seed", 0))


def is_sampled(photo: str, share: float, seed: int) -> bool:
    """Whether a photo is in the blind sample; this depends only on its id and the seed, not on when it was added."""
    number = int.from_bytes(hashlib.sha256(f"{seed}:{photo}".encode()).digest()[:8], "big") / 2**64
    return number < share


def _agreement(summary: Summary) -> str:
    interval = "" if summary.low is None or summary.n < 2 else f" (95 % {summary.low:.3f}-{summary.high:.3f})"
    masks = "1 mask agrees" if summary.n == 1 else f"{summary.n} masks agree"
    return f"{masks} with the model by Dice {summary.mean:.3f}{interval}"
