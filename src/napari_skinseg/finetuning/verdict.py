"""The verdict on a candidate: is it better than its base on photos that it was not trained on?

Dice is compared photo by photo, because photos differ more than models do. The 95 % interval of the mean difference is
the wider one of the paired bootstrap (Efron 1979) and Student's t: below ten photos the bootstrap alone is too narrow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.special import stdtrit  # importing scipy.stats would delay the plugin by half a second

from napari_skinseg.pixels.metrics import bootstrap_interval

FEWEST_PHOTOS = 4
"""With fewer photos nothing is measured, because the result would be chance."""
LEAST_GAIN = 0.005
"""A smaller gain in Dice cannot be seen, even if it is certain."""
LEAST_AGREEMENT = 0.7
"""With a lower mean Dice, masks probably belong to other photos: two experts agree with 0.78 (IMA++, 3,103 pairs)."""
LEAST_DICE_ACCEPTED = 0.90
"""Mean Dice that a candidate must keep on masks that were accepted without a change. A person who outlines a lesion
twice reaches 0.90 to 0.94."""


@dataclass(frozen=True)
class ComparedPhoto:
    """The results of both models on one held-out photo.

    Attributes:
        id: id of the case.
        image: file of the photo.
        mask: file of the person's mask.
        status: "corrected" if a person changed the mask, "accepted" if a person accepted it without a change.
        base_dice, candidate_dice: Dice of each model's mask with the person's mask.
        base_failed, candidate_failed: whether the Jaccard is below 0.65.
        base_mask, candidate_mask: files of each model's mask, in the folder of the run.
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
class ModelResult:
    """The results of one model on all held-out photos; None means "not measured".

    Attributes:
        dice, low, high: mean Dice and its 95 % interval.
        worst: lowest Dice.
        failures: number of photos with a Jaccard below 0.65.
        cases: number of held-out photos.
    """

    dice: float | None
    low: float | None
    high: float | None
    worst: float | None
    failures: int
    cases: int


@dataclass(frozen=True)
class Verdict:
    """The comparison of a candidate with its base.

    Attributes:
        compared: every held-out photo.
        base, candidate: the results of both models on them.
        difference, low, high: mean gain in Dice on the corrected photos (on all, if none was corrected) and its 95 %
            interval.
        phantoms_base, phantoms_candidate: mean Dice on generated photos; lower means that the model has forgotten.
        mixing_coefficient: see `fits`.
        passes: number of passes of the candidate.
        measured: whether there were enough photos.
        better: whether adopting is recommended.
        sentence: the result in words, for the user.
    """

    compared: tuple[ComparedPhoto, ...]
    base: ModelResult
    candidate: ModelResult
    difference: float | None
    low: float | None
    high: float | None
    phantoms_base: float
    phantoms_candidate: float
    mixing_coefficient: float
    passes: int
    measured: bool
    better: bool
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """Return plain values for `verdict.json`, where the mixing coefficient is called "mix"."""
        document = asdict(self)
        for row in document["compared"]:
            row.update({name: str(value) for name, value in row.items() if isinstance(value, Path)})
        document["mix"] = document.pop("mixing_coefficient")
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Verdict":
        """Create the verdict from what `to_json` returned.

        Raises:
            KeyError, TypeError: `document` is not a verdict.
        """
        values = dict(document)
        paths = ("image", "mask", "base_mask", "candidate_mask")
        values["compared"] = tuple(
            ComparedPhoto(**row | {name: Path(row[name]) for name in paths}) for row in values["compared"]
        )
        values |= {name: ModelResult(**values[name]) for name in ("base", "candidate")}
        return cls(mixing_coefficient=values.pop("mix"), **values)


def judge_candidate(
    compared: Sequence[ComparedPhoto],
    phantoms: tuple[Sequence[float], Sequence[float]],
    mixing_coefficient: float,
    passes: int,
) -> Verdict:
    """Decide whether a candidate is better than its base.

    Args:
        compared: held-out photos.
        phantoms: Dice of base and candidate on each generated photo.
        mixing_coefficient: see `Verdict`.
        passes: see `Verdict`.
    """
    base = _result([row.base_dice for row in compared], [row.base_failed for row in compared])
    candidate = _result([row.candidate_dice for row in compared], [row.candidate_failed for row in compared])
    corrected = [row for row in compared if row.status == "corrected"] or list(compared)
    accepted = [row.candidate_dice for row in compared if row.status == "accepted"]
    gains = [row.candidate_dice - row.base_dice for row in corrected]
    measured = len(gains) >= FEWEST_PHOTOS
    low, high = _interval(gains) if measured else (None, None)
    difference = float(np.mean(gains)) if measured else None
    forgot = sum(np.less(phantoms[1], 0.8)) > sum(np.less(phantoms[0], 0.8)) + len(phantoms[0]) // 4
    if difference is None or low is None or high is None:
        better, sentence = (
            False,
            (
                f"Not measured: {_photos(len(gains))} cannot show whether the new model is better; correct at least "
                f"{FEWEST_PHOTOS}, better twenty. Keep the base."
            ),
        )
    else:
        agreement = float(np.mean([row.candidate_dice for row in corrected]))
        better, sentence = (
            False,
            (
                f"On {_photos(len(gains))} that it was not trained on: Dice {agreement:.3f} instead of "
                f"{agreement - difference:.3f}, a difference of {difference:+.3f} "
                f"(95 % interval {low:+.3f} to {high:+.3f}). "
            ),
        )
        if agreement < LEAST_AGREEMENT:
            sentence += "Neither model agrees with these masks; check that each belongs to its photo. Keep the base."
        elif high < 0:
            sentence += "The new model is worse. Keep the base."
        elif low <= 0:
            sentence += "This difference may be chance. Keep the base, and correct more photos."
        elif difference < LEAST_GAIN:
            sentence += "This gain is too little to change the model. Keep the base."
        elif forgot:
            sentence += "But the new model has forgotten other lesions: it fails on generated photos. Keep the base."
        elif accepted and np.mean(accepted) < LEAST_DICE_ACCEPTED:
            sentence += (
                f"But it changes masks that you had accepted: Dice {np.mean(accepted):.3f} with them, "
                f"at least {LEAST_DICE_ACCEPTED:.2f} is required. Keep the base."
            )
        elif candidate.failures > base.failures:
            sentence += f"But it fails on {candidate.failures} photos, the base on {base.failures}. Keep the base."
        else:
            better, sentence = True, sentence + "The outlines of the new model are closer to yours. Adopt it."
    return Verdict(
        compared=tuple(compared),
        base=base,
        candidate=candidate,
        difference=difference,
        low=low,
        high=high,
        phantoms_base=float(np.mean(phantoms[0])),
        phantoms_candidate=float(np.mean(phantoms[1])),
        mixing_coefficient=mixing_coefficient,
        passes=passes,
        measured=measured,
        better=better,
        sentence=sentence,
    )


def _result(dices: list[float], failed: list[bool]) -> ModelResult:
    if len(dices) < FEWEST_PHOTOS:
        return ModelResult(None, None, None, None, 0, len(dices))
    low, high = bootstrap_interval(dices)
    return ModelResult(float(np.mean(dices)), low, high, min(dices), sum(failed), len(dices))


def _interval(gains: list[float]) -> tuple[float, float]:
    """The 95 % interval of the mean gain."""
    low, high = bootstrap_interval(gains)
    half = float(stdtrit(len(gains) - 1, 0.975) * np.std(gains, ddof=1) / np.sqrt(len(gains)))
    mean = float(np.mean(gains))
    return min(low, mean - half), max(high, mean + half)


def _photos(number: int) -> str:
    return f"{number} photo{'s' * (number != 1)}"
