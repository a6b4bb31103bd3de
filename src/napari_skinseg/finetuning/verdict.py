"""The verdict on a candidate: is it better than what is used now, on photos that it was not trained on?

Two questions are answered separately. Is the candidate better on the typical photo? The gains in Dice, photo by photo,
are judged by their trimmed mean and its interval (Tukey and McLaughlin 1963), which a single photo cannot decide. Does
the candidate fail where the base does not? These photos are counted and shown first. The rule was chosen by simulation;
`docs/finetune.md` has the table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy

from napari_skinseg.pixels.metrics import bootstrap_interval

FEWEST_PHOTOS = 4
"""With fewer photos nothing is measured, because the result would be chance."""
LEAST_GAIN = 0.005
"""A smaller change in Dice cannot be seen, even if it is certain."""
LEAST_AGREEMENT = 0.7
"""With a lower mean Dice, masks probably belong to other photos: two experts agree with 0.78 (IMA++, 3,103 pairs)."""
LEAST_DICE_ACCEPTED = 0.90
"""Mean Dice that a candidate must keep on masks that were accepted without a change. A person who outlines a lesion
twice reaches 0.90 to 0.94."""
TRIMMED = 0.2
"""Share of the values left out at each end of a trimmed mean."""

NEW_FAILURE_DROP = 0.05
"""A photo on which only the candidate fails is a new failure if its Dice is lower by this or more."""

Step = Literal["base", "border", "weights"]
"""The steps of a fine-tuning: the base, the base with the border of the person, and the network that was trained."""
STEP_NAMES: dict[Step, str] = {"base": "base", "border": "your border", "weights": "fine-tuned"}
"""Name of each step in tables."""
LEVELS: dict[Step, float] = {"border": 0.4, "weights": 0.99}
"""Level of the interval that must lie above 0. A border has three numbers and forgets nothing, so less certainty is
enough. Trained weights seldom gain where the source of the photos is known, so that a lucky 95 % interval was wrong in
two of the first 18 simulated clinics. `docs/finetune.md` has both simulations."""
NEW_FAILURES: dict[Step, float] = {"border": 0.05, "weights": 0.0}
"""Share of the photos by which the new failures may outnumber the failures that the candidate repairs. A border moves
all masks alike, so that a lesion that the base found too small can cross the limit; the pictures show it."""


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

    @property
    def gain(self) -> float:
        """Dice of the candidate minus that of the base."""
        return self.candidate_dice - self.base_dice

    @property
    def newly_failed(self) -> bool:
        """Whether only the candidate fails, and by more than a shift of the border across the limit."""
        return self.candidate_failed and not self.base_failed and self.gain <= -NEW_FAILURE_DROP


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
    """The comparison of a candidate with what it would replace, here called base.

    Attributes:
        compared: every held-out photo.
        base, candidate: the results of both on them.
        difference, low, high: trimmed mean of the gains in Dice on the corrected photos (on all, if none was
            corrected) and its interval; `LEVELS` has its level.
        phantoms_base, phantoms_candidate: mean Dice on generated photos; lower means that the model has forgotten.
        mixing_coefficient: see `fits`; 0 for a border.
        passes: number of passes of the candidate; 0 for a border.
        measured: whether there were enough photos.
        better: whether adopting is recommended.
        sentence: the result in words, for the user.
        step, previous: what the candidate is, and what it was compared with.
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
    step: Step = "weights"
    previous: Step = "base"

    def to_json(self) -> dict[str, Any]:
        """Return plain values for `verdict.json`, where some attributes have the names of `_JSON_NAMES`."""
        document = asdict(self)
        for row in document["compared"]:
            row.update({name: str(value) for name, value in row.items() if isinstance(value, Path)})
        return {_JSON_NAMES.get(name, name): value for name, value in document.items()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Verdict":
        """Create the verdict from what `to_json` returned; other entries are ignored.

        Raises:
            KeyError, TypeError: `document` is not a verdict.
        """
        names = {_JSON_NAMES.get(one.name, one.name): one.name for one in fields(cls)}
        values = {names[name]: value for name, value in document.items() if name in names}
        paths = ("image", "mask", "base_mask", "candidate_mask")
        values["compared"] = tuple(
            ComparedPhoto(**row | {name: Path(row[name]) for name in paths}) for row in values["compared"]
        )
        values |= {name: ModelResult(**values[name]) for name in ("base", "candidate")}
        return cls(**values)


def judge_candidate(
    compared: Sequence[ComparedPhoto],
    phantoms: tuple[Sequence[float], Sequence[float]],
    mixing_coefficient: float,
    passes: int,
    *,
    step: Step = "weights",
    previous: Step = "base",
    what: str = "",
) -> Verdict:
    """Decide whether a candidate is better than what it would replace.

    Args:
        compared: held-out photos.
        phantoms: Dice of base and candidate on each generated photo; both may be empty for a border.
        mixing_coefficient: see `Verdict`.
        passes: see `Verdict`.
        step: see `Verdict`.
        previous: see `Verdict`.
        what: start of the sentence; by default, it names what the candidate was compared with.
    """
    base = _result([row.base_dice for row in compared], [row.base_failed for row in compared], step)
    candidate = _result([row.candidate_dice for row in compared], [row.candidate_failed for row in compared], step)
    corrected = [row for row in compared if row.status == "corrected"] or list(compared)
    gains = [row.gain for row in corrected]
    measured = len(gains) >= fewest_photos(step)
    difference, low, high = trimmed_interval(gains, LEVELS[step]) if measured else (None, None, None)
    if difference is None or low is None or high is None:
        reason = f"{_photos(len(gains))} cannot show whether it is better; correct at least {fewest_photos(step)}"
        better, sentence = False, f"Not measured: {reason}, better twenty. Keep {_WORDS[previous]}."
    else:
        reason = _reason_to_keep(step, compared, corrected, phantoms, difference, low, high)
        better = not reason
        what = what or f"Compared with {_WORDS[previous]}"
        sentence = f"{what}: {_summary(corrected, difference, low, high, LEVELS[step])}"
        sentence += f" {reason} Keep {_WORDS[previous]}." if reason else f" {_ADVICE[step]}"
    return Verdict(
        compared=tuple(compared),
        base=base,
        candidate=candidate,
        difference=difference,
        low=low,
        high=high,
        phantoms_base=_mean(phantoms[0]),
        phantoms_candidate=_mean(phantoms[1]),
        mixing_coefficient=mixing_coefficient,
        passes=passes,
        measured=measured,
        better=better,
        sentence=sentence,
        step=step,
        previous=previous,
    )


def fewest_photos(step: Step) -> int:
    """The number of corrected photos from which a step is judged: a border has three numbers, a network millions."""
    return FEWEST_PHOTOS - 1 if step == "border" else FEWEST_PHOTOS


def trimmed_interval(gains: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Return the trimmed mean of at least two values, and its interval of `level`, in (0, 1).

    The interval is that of Tukey and McLaughlin (1963): Student's t with the winsorised standard deviation.
    """
    values, count = np.sort(np.asarray(gains, dtype=float)), len(gains)
    cut = int(TRIMMED * count)
    middle = values[cut : count - cut]
    winsorised = np.clip(values, middle[0], middle[-1])
    error = winsorised.std(ddof=1) / ((1 - 2 * cut / count) * np.sqrt(count))
    half = float(scipy.special.stdtrit(len(middle) - 1, (1 + level) / 2) * error)
    mean = float(middle.mean())
    return mean, mean - half, mean + half


def _reason_to_keep(
    step: Step,
    compared: Sequence[ComparedPhoto],
    corrected: Sequence[ComparedPhoto],
    phantoms: tuple[Sequence[float], Sequence[float]],
    difference: float,
    low: float,
    high: float,
) -> str:
    """A sentence that says why the candidate must not be adopted; empty if there is no reason."""
    agreement = np.mean([row.candidate_dice for row in corrected])
    accepted = [row.candidate_dice for row in compared if row.status == "accepted"]
    new = sum(row.newly_failed for row in compared)
    forgot = sum(np.less(phantoms[1], 0.8)) > sum(np.less(phantoms[0], 0.8)) + len(phantoms[0]) // 4
    if agreement < LEAST_AGREEMENT:
        return "Neither agrees with these masks; check that each belongs to its photo."
    if high < 0:
        return "It is worse."
    if low <= 0:
        return "This difference may be chance; correct more photos."
    if difference < LEAST_GAIN:
        return "This gain is too little to change the model."
    if forgot:
        return "But it has forgotten other lesions: it fails on generated photos."
    if accepted and np.mean(accepted) < LEAST_DICE_ACCEPTED:
        return (
            f"But it changes masks that you had accepted: Dice {np.mean(accepted):.3f} with them, "
            f"at least {LEAST_DICE_ACCEPTED:.2f} is required."
        )
    repaired = sum(row.base_failed and not row.candidate_failed for row in compared)
    if new > repaired + NEW_FAILURES[step] * len(compared):
        return f"But it fails on {_photos(new)} where the present model does not; look at the first pictures."
    return ""


def _summary(corrected: Sequence[ComparedPhoto], difference: float, low: float, high: float, level: float) -> str:
    """Such as "Dice 0.924 → 0.944 on 20 photos that were held out; better on 16, worse on 2. …"."""
    before, after = (
        float(np.mean(values)) for values in zip(*((r.base_dice, r.candidate_dice) for r in corrected), strict=True)
    )
    better = sum(row.gain >= LEAST_GAIN for row in corrected)
    worse = sum(row.gain <= -LEAST_GAIN for row in corrected)
    return (
        f"Dice {before:.3f} → {after:.3f} on {_photos(len(corrected))} that it was not trained on; "
        f"better on {better}, worse on {worse}. Typical gain {difference:+.3f} "
        f"({100 * level:.0f} % interval {low:+.3f} to {high:+.3f})."
    )


def _result(dices: list[float], failed: list[bool], step: Step) -> ModelResult:
    if len(dices) < fewest_photos(step):
        return ModelResult(None, None, None, None, 0, len(dices))
    low, high = bootstrap_interval(dices)
    return ModelResult(float(np.mean(dices)), low, high, min(dices), sum(failed), len(dices))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0


def _photos(number: int) -> str:
    return f"{number} photo{'s' * (number != 1)}"


_JSON_NAMES = {"mixing_coefficient": "mix", "step": "rung", "previous": "below"}
"""Names of attributes of `Verdict` in `verdict.json`, which stay so that old runs can be read."""
_WORDS: dict[Step, str] = {"base": "the base", "border": "the base with your border", "weights": "the present model"}
_ADVICE: dict[Step, str] = {
    "base": "",
    "border": "Use it.",
    "weights": "The outlines of the new model are closer to yours. Adopt it.",
}
