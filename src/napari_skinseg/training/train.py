"""Cases in, a new model out, with MONAI's engine: checkpointed after every pass, resumable, cancellable.

A run lives in its own folder:

    <out>/checkpoint.pt   everything needed to go on after a kill (read with `weights_only=True`)
    <out>/log.csv         one row per pass: size, loss, validation Dice, failure rate, seconds
    <out>/<name>/         the best model so far by validation Dice, a bundle like any other
"""

from collections.abc import Sequence
from pathlib import Path

from napari_skinseg.datasets.dataset import Case
from napari_skinseg.errors import BadInput, Cancelled
from napari_skinseg.events import CancelToken, NeverCancelled, OnEvent, ignore_event
from napari_skinseg.files import make_output_folder
from napari_skinseg.training.options import TrainOptions, TrainOutcome


def train(
    cases: Sequence[Case],
    validation: Sequence[Case],
    options: TrainOptions,
    out: str | Path,
    on_event: OnEvent = ignore_event,
    cancel: CancelToken | None = None,
) -> TrainOutcome:
    """Train a model; an unfinished run in `out` is taken up again.

    Under torchrun all processes learn together; the first one validates, keeps the model and tells of it.

    Args:
        cases: photos with masks to learn from.
        validation: photos with masks that choose the best pass, the threshold and the calibration.
        options: see `TrainOptions`.
        out: folder of the run.
        on_event: told about reading, every training step and every validation.
        cancel: looked at before every step; a cancelled run keeps its checkpoint of the last full pass.

    Raises:
        BadInput: an option, a case or the folder cannot be used, or the loss stopped being a number.
    """
    options.validate()
    from .calibrate import calibrate
    from .run import Trainer

    run = Trainer(
        _with_masks(cases, "train"), _with_masks(validation, "validate"), options, make_output_folder(out), on_event
    )
    token = cancel or NeverCancelled()
    run.restore()
    try:
        for number in range(run.finished, options.passes):
            run.one_pass(number, token)
        if run.first and run.best_dice is not None:
            calibrate(run.model_folder, run.validation, options.device, on_event, token)
    except Cancelled:
        pass
    finally:
        run.close()
    done = run.finished >= options.passes and not token.is_set()
    return TrainOutcome(run.model_folder if run.best_dice is not None else None, run.best_dice, run.finished, not done)


def _with_masks(cases: Sequence[Case], purpose: str) -> list[Case]:
    usable = [case for case in cases if case.mask is not None]
    if not usable:
        raise BadInput(f"There is no photo with a mask to {purpose} on; check the folders and the split file.")
    return usable
