"""`napari-skinseg finetune …`: adapt a model to corrected masks."""

from pathlib import Path
from typing import Literal

from napari_skinseg.evaluation.tables import Table
from napari_skinseg.finetuning import runs
from napari_skinseg.finetuning.evidence import collect
from napari_skinseg.finetuning.finetune import fine_tune
from napari_skinseg.finetuning.options import FineTuneOptions, FineTuneOutcome
from napari_skinseg.finetuning.verdict import STEP_NAMES, Verdict
from napari_skinseg.models import store

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
    """Match the border of a model to corrected masks, and fine-tune it; held-out photos judge each step.

    The same command continues a run that was stopped.

    Args:
        source: Folder of a project, or of photos with masks.
        base: Model to start from, a name or a folder; the default model when not given.
        out: Folder of the run; one in your data folder when not given.
        adopt: Whether a new model is added to your models and becomes the default: auto (the one that is better beyond
            chance: the fine-tuned model, or the base with your border), never or always (the fine-tuned model). The
            base is never changed.
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
    chosen = {"auto": outcome.recommended, "always": outcome.candidate, "never": None}[adopt]
    name = None if chosen is None else runs.adopt(chosen).name
    border = outcome.border
    if output.json:
        matched = border and {"border": border.border, "model": border.model, "verdict": border.verdict.to_json()}
        print_json({**outcome.verdict.to_json(), "border": matched, "run": outcome.folder, "adopted": name})
    elif not output.quiet:
        if border is not None:
            print(f"{_table(border.verdict)}\n\n{border.verdict.sentence}")
        if not options.border_only:
            print(f"\n{_table(outcome.verdict)}\n\n{outcome.verdict.sentence}")
        print(_next_step(outcome, name))
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
    }
    if verdict.step == "weights":
        rows["Dice on generated photos"] = [figure(verdict.phantoms_base), figure(verdict.phantoms_candidate)]
    names = (STEP_NAMES[verdict.previous], STEP_NAMES[verdict.step])
    return Table(("", *names), tuple((label, *figures) for label, figures in rows.items())).as_text()


def _next_step(outcome: FineTuneOutcome, adopted: str | None) -> str:
    if adopted:
        base = store.find(adopted).spec
        name = "BASE" if base is None else base.provenance.get("base", "BASE")
        return f"Adopted: {adopted} is now the default model. To go back: napari-skinseg models default {name}"
    return f"Not adopted. To adopt it anyway: napari-skinseg models add {outcome.recommended or outcome.candidate}"
