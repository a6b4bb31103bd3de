"""Fine-tune a model on corrected masks and compare it with its base: the public function `fine_tune`.

A run writes into its own folder:

    <run>/checkpoint.pt     all that is needed to continue after a stop (read with `weights_only=True`), until the end
    <run>/masks/            a copy of the masks; the run reads only this copy
    <run>/log.csv           one row per pass of each fit: loss, and Dice on the held-out photos where it was measured
    <run>/log.json          base, options, photos and result
    <run>/curve.png         loss and Dice over the passes
    <run>/held-out/         the masks of both models for every held-out photo
    <run>/verdict.json      see `verdict.Verdict`; the entry "border" is the verdict on the border
    <run>/<base>-border/    the base with the border of the person, a model bundle
    <run>/<name>/           the candidate, a model bundle
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from napari_skinseg.errors import BadInput
from napari_skinseg.events import CancelToken, NeverCancelled, OnEvent, ignore_event
from napari_skinseg.files import make_output_folder
from napari_skinseg.finetuning.evidence import Evidence
from napari_skinseg.finetuning.options import FineTuneOptions, FineTuneOutcome
from napari_skinseg.finetuning.runs import LOG, suggest_name
from napari_skinseg.models import store


def fine_tune(
    base: str | Path | None,
    evidence: Evidence,
    options: FineTuneOptions,
    out: str | Path,
    on_event: OnEvent = ignore_event,
    cancel: CancelToken | None = None,
    user_is_active: Callable[[], bool] = lambda: False,
) -> FineTuneOutcome:
    """Fine-tune a model, or continue an unfinished run with the same base, photos and options in `out`.

    The run copies the masks at its start. Corrections during a run, or before it is continued, count in the next run.

    First the border of the base is fitted to the masks (`finetuning.border`). If that is better, the weights are
    trained on masks in the style of the base, so that they learn only what a border cannot express; the candidate has
    both. Each step is compared with the one before, on the same photos and masks.

    For each part of `Evidence.split_folds`, a copy of the base is trained on the other cases and judged on this part.
    The judged model is an average of the weights of the base and of the copy (WiSE-FT, Wortsman et al. 2022); its
    mixing coefficient is chosen on the other parts. With cross-validation, the candidate is then trained on all cases;
    with a single part, the judged copy becomes the candidate.

    Args:
        base: name or folder of a model, None for the default model; its files are only read.
        evidence: see `evidence.collect`.
        options: see `FineTuneOptions`.
        out: folder of the run.
        on_event: receives an event for each batch, each result and each change (such as less memory).
        cancel: is read before each batch and each photo.
        user_is_active: is read after each batch; while it returns True, the training on a CPU leaves one core free.

    Raises:
        BadInput: the model does not exist, an option is out of its range, there are too few photos to judge a model, or
            the loss is not a finite number any more.
    """
    options.validate()
    if not evidence.cases:
        raise BadInput("There is nothing to fine-tune on; correct or accept some photos first.")
    evidence.check_enough(options)
    model = store.find(store.default_name() if base is None else base)
    ending = "border" if options.border_only else "tuned"
    options = replace(options, name=options.name or suggest_name(model.name, ending))
    if (Path(out) / options.name).exists() and not (Path(out) / LOG).exists():
        raise BadInput(
            f"{Path(out) / options.name} exists and does not belong to a run; choose another folder or another name."
        )
    from .run import FineTuningRun

    cancel = cancel or NeverCancelled()
    return FineTuningRun(model, evidence, options, make_output_folder(out), on_event, cancel, user_is_active).run()
