"""Train a model from photos with masks: the public function `train`.

A run writes into its own folder:

    <out>/checkpoint.pt   all that is needed to continue after a stop (read with `weights_only=True`)
    <out>/log.csv         one row per pass: size, loss, validation Dice, failure rate, seconds
    <out>/<name>/         the best model so far by validation Dice, a model bundle
"""

from collections.abc import Sequence
from pathlib import Path

from napari_skinseg.datasets.dataset import Case
from napari_skinseg.errors import BadInput, Cancelled
from napari_skinseg.events import CancelToken, Event, NeverCancelled, OnEvent, ignore_event
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
    """Train a model, or continue an unfinished run in `out`.

    Under torchrun all processes train together; the first one validates, writes files and reports events.

    Args:
        cases: photos with masks to learn from; cases without a mask are ignored.
        validation: photos with masks that choose the best pass, the threshold and the calibration.
        options: see `TrainOptions`.
        out: folder of the run.
        on_event: receives an event for each photo that is read, each training step and each validation.
        cancel: is read before each step. A cancelled run keeps the checkpoint of its last complete pass.

    Raises:
        BadInput: an option, a case or the folder cannot be used, or the loss is not a finite number any more.
    """
    options.validate()
    from napari_skinseg.models.onnx_export import write_onnx

    from .calibrate import calibrate
    from .presence import add_presence_head
    from .run import TrainingRun

    run = TrainingRun(
        _with_masks(cases, "train"), _with_masks(validation, "validate"), options, make_output_folder(out), on_event
    )
    cancel = cancel or NeverCancelled()
    run.resume()
    try:
        for number in range(run.finished, options.passes):
            run.run_pass(number, cancel)
        if run.is_first_process and run.best_dice is not None:
            add_presence_head(run.model_folder, run.cases, options.device, on_event, cancel, options.seed)
            calibrate(run.model_folder, run.validation, options.device, on_event, cancel)
            if problem := write_onnx(run.model_folder):
                on_event(Event("calibrate", len(run.validation), len(run.validation), problem))
    except Cancelled:
        pass
    finally:
        run.close()
    done = run.finished >= options.passes and not cancel.is_set()
    return TrainOutcome(run.model_folder if run.best_dice is not None else None, run.best_dice, run.finished, not done)


def _with_masks(cases: Sequence[Case], purpose: str) -> list[Case]:
    usable = [case for case in cases if case.mask is not None]
    if not usable:
        raise BadInput(f"There is no photo with a mask to {purpose} on; check the folders and the split file.")
    return usable
