"""Base against candidate on the same photos, none of which the candidate had learned from: is it better beyond noise?

The difference is judged photo by photo, because photos differ much more than models do. Its 95 % interval is the wider
of the paired bootstrap's (Efron 1979) and Student's t, as the bootstrap alone is too sure of itself below ten photos.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.special import stdtrit  # scipy.stats takes half a second to import, and the window imports this

from napari_skinseg.pixels.metrics import bootstrap_interval

FEWEST = 4
"""With fewer photos nothing is measured: any number would be chance."""
LEAST_GAIN = 0.005
"""A smaller gain in Dice is nothing that anyone would see, however sure it is."""
MIXED_UP = 0.7
"""Two experts agree with a mean Dice of 0.78 (IMA++, 3,103 pairs); below this, masks hardly belong to their photos."""
ACCEPTED = 0.90
"""Dice that a model must keep, in the mean, on masks that were accepted as they are: a person who draws twice reaches
as much (0.90 to 0.94)."""


@dataclass(frozen=True)
class Compared:
    """One held-out photo.

    Attributes:
        id: of the case.
        image: the photo.
        mask: what the person wants.
        status: "corrected" if a person changed the mask, "accepted" if they approved it as it was.
        base_dice, candidate_dice: of both models' masks with the person's.
        base_failed, candidate_failed: whether the Jaccard is below 0.65.
        base_mask, candidate_mask: both models' masks, in the run's folder.
    """

    id: str
    image: Path
    mask: Path
    status: Literal["corrected", "accepted"]
    base_dice: float
    candidate_dice: float
    base_failed: bool
    candidate_failed: bool
    base_mask: Path
    candidate_mask: Path


@dataclass(frozen=True)
class Judged:
    """One model on all held-out photos; None is "not measured".

    Attributes:
        dice, low, high: mean Dice and its 95 % interval.
        worst: the lowest Dice.
        failures: photos with a Jaccard below 0.65.
        cases: held-out photos.
    """

    dice: float | None
    low: float | None
    high: float | None
    worst: float | None
    failures: int
    cases: int


@dataclass(frozen=True)
class Verdict:
    """What is known about a candidate.

    Attributes:
        compared: every held-out photo.
        base, candidate: both models on them.
        difference, low, high: mean gain in Dice on the corrected photos (on all, if none was corrected) and its 95 %
            interval.
        phantoms_base, phantoms_candidate: mean Dice on generated photos, which shows forgetting.
        mix: share of the fine-tuned weights in the candidate, the rest being the base's.
        passes: over the photos, that the candidate learned for.
        measured: whether there were enough photos.
        better: whether adopting can be advised.
        sentence: all this for a person.
    """

    compared: tuple[Compared, ...]
    base: Judged
    candidate: Judged
    difference: float | None
    low: float | None
    high: float | None
    phantoms_base: float
    phantoms_candidate: float
    mix: float
    passes: int
    measured: bool
    better: bool
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        document = asdict(self)
        for row in document["compared"]:
            row.update({name: str(value) for name, value in row.items() if isinstance(value, Path)})
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Verdict":
        """The verdict that became these plain values.

        Raises:
            KeyError, TypeError: they were no verdict.
        """
        paths = ("image", "mask", "base_mask", "candidate_mask")
        compared = (Compared(**row | {name: Path(row[name]) for name in paths}) for row in document["compared"])
        models = {name: Judged(**document[name]) for name in ("base", "candidate")}
        return cls(**{**document, **models, "compared": tuple(compared)})


def judge(
    compared: Sequence[Compared], phantoms: tuple[Sequence[float], Sequence[float]], mix: float, passes: int
) -> Verdict:
    """Weigh a candidate.

    Args:
        compared: held-out photos.
        phantoms: Dice of base and candidate on each generated photo.
        mix: see `Verdict`.
        passes: see `Verdict`.
    """
    base = _judged([row.base_dice for row in compared], [row.base_failed for row in compared])
    candidate = _judged([row.candidate_dice for row in compared], [row.candidate_failed for row in compared])
    corrected = [row for row in compared if row.status == "corrected"] or list(compared)
    accepted = [row.candidate_dice for row in compared if row.status == "accepted"]
    gains = [row.candidate_dice - row.base_dice for row in corrected]
    measured = len(gains) >= FEWEST
    low, high = _interval(gains) if measured else (None, None)
    difference = float(np.mean(gains)) if measured else None
    forgot = sum(np.less(phantoms[1], 0.8)) > sum(np.less(phantoms[0], 0.8)) + len(phantoms[0]) // 4
    if difference is None or low is None or high is None:
        better, sentence = (
            False,
            (
                f"Not measured: {_photos(len(gains))} cannot show whether the new model is better; correct at least "
                f"{FEWEST}, better twenty. Keep the base."
            ),
        )
    else:
        agreement = float(np.mean([row.candidate_dice for row in corrected]))
        told = f"Dice {agreement:.3f} instead of {agreement - difference:.3f}, {_interval_words(difference, low, high)}"
        better, sentence = False, f"On {_photos(len(gains))} that it had not learned from: {told}. "
        if agreement < MIXED_UP:
            sentence += "Neither model agrees with these masks; check that each belongs to its photo. Keep the base."
        elif high < 0:
            sentence += "The new model is worse. Keep the base."
        elif low <= 0:
            sentence += "That may be chance. Keep the base, and correct more photos."
        elif difference < LEAST_GAIN:
            sentence += "That is too little to change models for. Keep the base."
        elif forgot:
            sentence += "But it has forgotten what lesions look like elsewhere. Keep the base."
        elif accepted and np.mean(accepted) < ACCEPTED:
            sentence += (
                f"But it spoils masks that you had accepted: Dice {np.mean(accepted):.3f} with them, "
                f"where {ACCEPTED:.2f} is asked. Keep the base."
            )
        elif candidate.failures > base.failures:
            sentence += f"But it fails on {candidate.failures} photos, the base on {base.failures}. Keep the base."
        else:
            better, sentence = True, sentence + "The new model draws more like you. Adopt it."
    return Verdict(
        compared=tuple(compared),
        base=base,
        candidate=candidate,
        difference=difference,
        low=low,
        high=high,
        phantoms_base=float(np.mean(phantoms[0])),
        phantoms_candidate=float(np.mean(phantoms[1])),
        mix=mix,
        passes=passes,
        measured=measured,
        better=better,
        sentence=sentence,
    )


def _judged(dices: list[float], failed: list[bool]) -> Judged:
    if len(dices) < FEWEST:
        return Judged(None, None, None, None, 0, len(dices))
    low, high = bootstrap_interval(dices)
    return Judged(float(np.mean(dices)), low, high, min(dices), sum(failed), len(dices))


def _interval(gains: list[float]) -> tuple[float, float]:
    low, high = bootstrap_interval(gains)
    half = float(stdtrit(len(gains) - 1, 0.975) * np.std(gains, ddof=1) / np.sqrt(len(gains)))
    mean = float(np.mean(gains))
    return min(low, mean - half), max(high, mean + half)


def _interval_words(difference: float, low: float, high: float) -> str:
    return f"a difference of {difference:+.3f} (95 % interval {low:+.3f} to {high:+.3f})"


def _photos(number: int) -> str:
    return f"{number} photo{'s' * (number != 1)}"
