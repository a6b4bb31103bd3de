"""`napari-skinseg finetune …`: adapt a model to corrected masks."""

from pathlib import Path
from typing import Literal

from napari_skinseg.evaluation.tables import Table
from napari_skinseg.finetuning import runs
from napari_skinseg.finetuning.evidence import collect
from napari_skinseg.finetuning.finetune import fine_tune
from napari_skinseg.finetuning.options import FineTuneOptions, FineTuneOutcome
from napari_skinseg.finetuning.verdict import Verdict

from .exit_codes import DONE, INTERRUPTED
from .options import Output, remove_prefix
from .terminal import interruptible, print_json, progress, say

Adopt = Literal["auto", "never", "always"]

remove_prefix(FineTuneOptions)


def finetune(
    source: Path,
    /,
    *,
    base: str | None = None,
    out: Path | None = None,
    adopt: Adopt = "auto",
    options: FineTuneOptions = FineTuneOptions(),
    output: Output = Output(),
) -> int:
    """Fine-tune a model on corrected masks, and compare it with its base on held-out photos.

    The same command continues a run that was stopped.

    Args:
        source: Folder of a project, or of photos with masks.
        base: Model to start from, a name or a folder; the default model when not given.
        out: Folder of the run; one in your data folder when not given.
        adopt: Whether the new model is added to your models and becomes the default: auto (if it is better beyond
            chance), never or always. The base is never changed.
    """
    options.validate()
    with interruptible() as cancel, progress(output.quiet, keep_messages=True) as on_event:
        evidence = collect(source, on_event, cancel)
        say(f"Photos: {evidence.describe(options)}", quiet=output.quiet)
        for _, sentence in evidence.left_out:
            say(sentence)
        outcome = fine_tune(base, evidence, options, out or runs.choose_run_folder(source), on_event, cancel)
    if outcome.verdict is None or outcome.candidate is None:
        say(f"Stopped; the same command continues. The run is in {outcome.folder}", quiet=output.quiet)
        return INTERRUPTED
    name = None
    if adopt == "always" or (adopt == "auto" and outcome.verdict.better):
        name = runs.adopt(outcome.candidate).name
    if output.json:
        print_json({**outcome.verdict.to_json(), "run": outcome.folder, "adopted": name})
    elif not output.quiet:
        print("\n".join([_table(outcome.verdict), "", outcome.verdict.sentence, _next_step(outcome, name)]))
    return DONE


def _table(verdict: Verdict) -> str:
    def figure(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    models = (verdict.base, verdict.candidate)
    rows = {
        f"Dice on {verdict.base.cases} held-out photos": [figure(model.dice) for model in models],
        "  95 % interval": [f"{figure(model.low)} to {figure(model.high)}" for model in models],
        "  worst photo": [figure(model.worst) for model in models],
        "  failures (Jaccard < 0.65)": [str(model.failures) if verdict.measured else "–" for model in models],
        "Dice on generated photos": [figure(verdict.phantoms_base), figure(verdict.phantoms_candidate)],
    }
    return Table(("", "base", "candidate"), tuple((label, *figures) for label, figures in rows.items())).as_text()


def _next_step(outcome: FineTuneOutcome, adopted: str | None) -> str:
    if adopted:
        return f"Adopted: {adopted} is now the default model. To go back: napari-skinseg models default BASE"
    return f"Not adopted. To adopt it anyway: napari-skinseg models add {outcome.candidate}"
