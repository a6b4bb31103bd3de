"""A base model and corrected cases in, a candidate out, judged against the base before it is trusted.

<run>/checkpoint.pt     everything needed to go on after a kill (read with `weights_only=True`); gone when it is done
<run>/log.csv           a row per pass of each fit: loss, and Dice on photos held out where it was measured
<run>/log.json          base, options, photos and what came of it
<run>/curve.png         loss and Dice over the passes
<run>/held-out/         both models' masks of every photo held out
<run>/verdict.json      see `verdict.Verdict`
<run>/<name>/           the candidate, a bundle like any other
"""

from dataclasses import replace
from pathlib import Path

from napari_skinseg.errors import BadInput
from napari_skinseg.events import CancelToken, NeverCancelled, OnEvent, ignore_event
from napari_skinseg.files import make_output_folder
from napari_skinseg.finetuning.evidence import Evidence
from napari_skinseg.finetuning.options import FineTuneOptions, FineTuneOutcome
from napari_skinseg.finetuning.runs import LOG, free_name
from napari_skinseg.models import store


def fine_tune(
    base: str | Path | None,
    evidence: Evidence,
    options: FineTuneOptions,
    out: str | Path,
    on_event: OnEvent = ignore_event,
    cancel: CancelToken | None = None,
) -> FineTuneOutcome:
    """Teach a model a person's style; an unfinished run of the same base, photos and options in `out` is taken up.

    One fit for each part of `Evidence.held_out` shows what fine-tuning is worth, and how much of the fine-tuned weights
    is best; the rest are the base's (WiSE-FT, Wortsman et al. 2022). With cross-fitting the candidate is then fitted on
    all cases; with a fixed share held out, the fit that was judged is the candidate. How each part is judged was chosen
    on the others.

    Args:
        base: name or folder of a model, None for the default one; it is only read.
        evidence: see `collect`.
        options: see `FineTuneOptions`.
        out: folder of the run.
        on_event: told of every batch, of what was measured and of what had to change (less memory).
        cancel: looked at before every batch and photo.

    Raises:
        BadInput: there is no such model, an option is out of range, or the loss stopped being a number.
    """
    options.validate()
    if not evidence.cases:
        raise BadInput("There is nothing to fine-tune on; correct or accept some photos first.")
    model = store.find(store.default_name() if base is None else base)
    options = replace(options, name=options.name or free_name(model.name))
    if (Path(out) / options.name).exists() and not (Path(out) / LOG).exists():
        raise BadInput(f"{Path(out) / options.name} exists and is of no run; choose another folder or another name.")
    from .run import FineTuner

    tuner = FineTuner(model, evidence, options, make_output_folder(out), on_event, cancel or NeverCancelled())
    return tuner.run()
