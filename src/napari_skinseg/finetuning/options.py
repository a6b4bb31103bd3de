"""TODO."""

from dataclasses import dataclass
from pathlib import Path

from napari_skinseg.errors import BadInput
from napari_skinseg.models.bundle import NAME_PATTERN

from .verdict import Verdict

FEW = 20
"""More photos than these get fewer passes, so that fine-tuning takes no longer."""


LEAST_PASSES = 10


@dataclass(frozen=True)
class FineTuneOptions:
    """How a model is fine-tuned.

    Attributes:
        name: Name of the new model; the base's with "-tuned" when not given.
        passes: How often each photo is seen, up to 20 photos; more photos are seen less often, but ten times.
        learning_rate: Highest learning rate; low, because the base knows nearly everything already.
        batch_size: Photos per step; few, because many small steps learn a style better than few large ones.
        folds: Parts that up to 60 cases are divided into; each is judged by a model that did not see it.
        seed: Seed of everything random.
        device: auto, cuda, mps or cpu.
    """

    name: str = ""
    passes: int = 20
    learning_rate: float = 3e-4
    batch_size: int = 4
    folds: int = 4
    seed: int = 0
    device: str = "auto"

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
        """Passes over so many photos."""
        return max(min(self.passes, LEAST_PASSES), round(self.passes * min(1.0, FEW / max(photos, 1))))


@dataclass(frozen=True)
class FineTuneOutcome:
    """What a run left.

    Attributes:
        folder: of the run.
        candidate: bundle of the candidate, None if the run was cancelled.
        verdict: None if the run was cancelled.
        cancelled: whether it was stopped; the same call goes on from its last checkpoint, unless `discard` deletes it.
    """

    folder: Path
    candidate: Path | None
    verdict: Verdict | None
    cancelled: bool
