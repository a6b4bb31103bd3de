"""The options of a fine-tuning, and what a fine-tuning returns."""

from dataclasses import dataclass
from pathlib import Path

from napari_skinseg.errors import BadInput
from napari_skinseg.models.bundle import NAME_PATTERN

from .verdict import Verdict

MANY_PHOTOS = 20
"""With more photos than this number, each photo is shown less often, so that fine-tuning does not take longer."""
FEWEST_PASSES = 10


@dataclass(frozen=True)
class FineTuneOptions:
    """How a model is fine-tuned.

    Attributes:
        name: Name of the new model; the name of the base with "-tuned" when not given.
        passes: How often each of up to 20 photos is shown; more photos are shown less often, but at least ten times.
        learning_rate: Highest learning rate; lower than in a training, because the base needs small changes only.
        batch_size: Photos per step; many steps with few photos learn a style better than few steps with many.
        folds: Parts that up to 60 cases are divided into; a model that did not see a part is judged on this part.
        seed: Seed of all random numbers.
        device: auto, cuda, mps or cpu.
        border_only: Match the border, which takes seconds, and train no weights.
    """

    name: str = ""
    passes: int = 20
    learning_rate: float = 3e-4
    batch_size: int = 4
    folds: int = 4
    seed: int = 0
    device: str = "auto"
    border_only: bool = False

    def validate(self) -> None:
        """Raise `BadInput` if a value is out of its range."""
        if self.name and not NAME_PATTERN.fullmatch(self.name):
            raise BadInput(f"{self.name!r} is no model name; use up to 64 of a-z, 0-9, dot, dash and underscore.")
        if not 1 <= self.passes <= 1000:
            raise BadInput(f"passes is {self.passes}; it must be from 1 to 1000.")
        if not 0 < self.learning_rate <= 0.1:
            raise BadInput(f"learning_rate is {self.learning_rate}; it must be above 0 and at most 0.1.")
        if not 1 <= self.batch_size <= 256:
            raise BadInput(f"batch_size is {self.batch_size}; it must be from 1 to 256.")
        if not 2 <= self.folds <= 20:
            raise BadInput(f"folds is {self.folds}; it must be from 2 to 20.")

    def passes_for(self, photos: int) -> int:
        """The number of passes for this number of photos."""
        return max(min(self.passes, FEWEST_PASSES), round(self.passes * min(1.0, MANY_PHOTOS / max(photos, 1))))


@dataclass(frozen=True)
class BorderOutcome:
    """The first step of a fine-tuning: the base with the border of the person.

    Attributes:
        border: (threshold, offset, smoothing), see `segmentation.border.Border`.
        model: bundle with the weights of the base and this border.
        verdict: the comparison with the base.
    """

    border: tuple[float, float, float]
    model: Path
    verdict: Verdict


@dataclass(frozen=True)
class FineTuneOutcome:
    """The result of a fine-tuning.

    Attributes:
        folder: folder of the run.
        candidate: bundle of the new model, or None if the run was cancelled.
        verdict: the comparison of candidate and base, or None if the run was cancelled.
        cancelled: whether the run was cancelled. The same call continues it, unless `runs.discard` deleted it.
        border: the matched border; None if there was nothing to match. With `FineTuneOptions.border_only`, its model
            and verdict are also `candidate` and `verdict`.
    """

    folder: Path
    candidate: Path | None
    verdict: Verdict | None
    cancelled: bool
    border: BorderOutcome | None = None

    @property
    def recommended(self) -> Path | None:
        """The bundle that the verdicts advise to adopt: the trained model, else the base with the border, or None."""
        if self.verdict is not None and self.verdict.better:
            return self.candidate
        return self.border.model if self.border is not None and self.border.verdict.better else None
