"""The command line: one command per verb, with the verb's own names, defaults and help.

Flags are made from the verbs' dataclasses, so an option is added once, there. Nothing here imports torch before a
command needs it. Exit codes: 0 all done; 1 some photos failed and are named, the others are done; 2 bad input, nothing
done; 70 a bug of ours; 130 interrupted, what is done is whole.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from napari_skinseg.batch.folder import BatchOptions, BatchOutcome, segment_files
from napari_skinseg.datasets.checks import check_cases
from napari_skinseg.datasets.dataset import Case, apply_splits, find_cases
from napari_skinseg.datasets.splits import divide, write_splits
from napari_skinseg.errors import BadInput, Cancelled
from napari_skinseg.evaluation.evaluate import EvaluateOptions, evaluate_many
from napari_skinseg.evaluation.result_files import REPORT, write_results
from napari_skinseg.evaluation.tables import as_text
from napari_skinseg.files import make_output_folder
from napari_skinseg.pixels.cleaning import CleanUp
from napari_skinseg.pixels.image import find_images
from napari_skinseg.pixels.mask import read_mask
from napari_skinseg.pixels.metrics import FAILURE_JACCARD, dice
from napari_skinseg.project.export import ExportOptions, export_project
from napari_skinseg.project.project import Project
from napari_skinseg.segmentation.options import SegmentOptions
from napari_skinseg.segmentation.segmenter import Segmenter
from napari_skinseg.training.options import TrainOptions
from napari_skinseg.training.train import train as run_training

from .demo import open_in_napari, print_table, write_samples
from .finetune import finetune
from .models import Output, models
from .terminal import interruptible, print_json, progress, report_crash, say

DONE, SOME_FAILED, BAD_INPUT, BUG, INTERRUPTED = 0, 1, 2, 70, 130


@dataclass(frozen=True)
class With:
    """What segments.

    Attributes:
        model: Name of a model (see `models list`) or its folder; the default model when not given.
        device: auto, cuda, mps or cpu.
    """

    model: str | None = None
    device: str = "auto"


# Fields become flags of their own (--threshold), not of their group (--segment.threshold).
for _options in (BatchOptions, CleanUp, EvaluateOptions, ExportOptions, SegmentOptions, TrainOptions, With):
    Parameter(name="*")(_options)

app = App(
    name="napari-skinseg",
    help="Outline skin lesions in dermoscopic photographs. A research tool, not a medical device.",
    help_format="plaintext",
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
app.command(models)
app.command(finetune)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; no traceback ever reaches the screen."""
    try:
        return int(app(arguments, exit_on_error=False) or DONE)
    except CycloptsError:  # cyclopts has said what is wrong
        return BAD_INPUT
    except BadInput as error:
        say(str(error))
        return BAD_INPUT
    except (KeyboardInterrupt, Cancelled):
        say("Interrupted.")
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough; Python must not complain again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        report_crash(error)
        return BUG


@app.command
def segment(
    paths: list[Path],
    /,
    *,
    out: Path = Path("segmentations"),
    using: With = With(),
    options: BatchOptions = BatchOptions(),
    output: Output = Output(),
) -> int:
    """Outline the lesion in every photo: a mask named <photo>_segmentation.png each, in the photo's own size.

    Args:
        paths: Photos, or folders of photos with all their subfolders.
        out: Folder for the masks.
    """
    options.validate()
    outcome, segmenter = _segment(find_images(paths), out, using, options, output)
    if output.json:
        print_json(_as_json(outcome, segmenter))
    elif not output.quiet:
        print(_in_words(outcome, out))
    return _code(outcome)


@app.command
def demo(
    *,
    images: Path | None = None,
    out: Path = Path("demo-output"),
    view: bool = False,
    using: With = With(),
    output: Output = Output(),
) -> int:
    """Show what it does: segment your photos or four generated ones, measure them and print the table.

    Args:
        images: A photo or a folder of photos; generated sample photos with a known mask when not given.
        out: Folder for masks, overlays and the table.
        view: Open the first result in napari afterwards, where there is a screen.
    """
    truths = {} if images else write_samples(make_output_folder(out / "photos"))
    photos = find_images(images) if images else sorted(truths)
    options = BatchOptions(overlay=True, measure=True, overwrite=True)
    outcome, segmenter = _segment(photos, out, using, options, output)
    agreement = {
        result.photo: dice(read_mask(result.mask), truths[result.photo])
        for result in outcome.done
        if result.photo in truths
    }
    if output.json:
        document = _as_json(outcome, segmenter)
        for entry, result in zip(document["done"], outcome.done, strict=True):
            entry["dice"] = agreement.get(result.photo)
        print_json(document)
    elif not output.quiet:
        print_table(outcome.done, agreement)
        print(_in_words(outcome, out))
    if view and outcome.done and not open_in_napari(outcome.done[0]):
        say("napari stays closed: there is no screen here, or napari is not installed.", quiet=output.quiet)
    return _code(outcome)


@app.command
def evaluate(
    folders: list[Path],
    /,
    *,
    splits: Path | None = None,
    split: str = "test",
    several: Annotated[list[str] | None, Parameter(name="--models", consume_multiple=True, negative="")] = None,
    out: Path | None = None,
    using: With = With(),
    options: EvaluateOptions = EvaluateOptions(),
    output: Output = Output(),
) -> int:
    """Compare a model's masks with those that people drew.

    Args:
        folders: Folders of photos with masks.
        splits: CSV file that puts each photo into a split; all photos are used when not given.
        split: Split to use.
        several: Names or folders of models to compare on the same photos, the others with the first; in place of
            --model.
        out: Folder for the per-image table (CSV), the summary (JSON) and a report with plots and the worst photos
            (HTML), to be kept on this computer.
    """
    options.validate()
    if several and using.model is not None:
        raise BadInput("--model names one model and --models several; give one of the two.")
    cases = _cases(folders, splits, split)
    if out is not None:
        make_output_folder(out)
    segmenters = [Segmenter(name, using.device, say) for name in several or (using.model,)]
    for segmenter in segmenters:
        say(f"{segmenter.spec.name} on {segmenter.device_line}", quiet=output.quiet)
    with interruptible() as cancel, progress(output.quiet) as on_event:
        comparison = evaluate_many(segmenters, cases, options, on_event, cancel)
    found = comparison if len(segmenters) > 1 else comparison.evaluations[0]
    if out is not None:
        write_results(found, out)
        say(f"Report, with photos, so keep it on this computer: {out / REPORT}", quiet=output.quiet)
    if output.json:
        print_json(found.to_json())
    elif not output.quiet:
        print(as_text(found))
    return SOME_FAILED if found.left_out else DONE


@app.command
def train(
    folders: list[Path],
    /,
    *,
    out: Path,
    splits: Path | None = None,
    validation: Annotated[list[Path] | None, Parameter(consume_multiple=True)] = None,
    options: TrainOptions = TrainOptions(),
    output: Output = Output(),
) -> int:
    """Train a new model on photos with masks; the same command goes on with a run that was stopped.

    Args:
        folders: Folders of photos with masks to learn from.
        out: Folder of the run; the new model appears in it under its name.
        splits: CSV file that puts each photo into train, val or another split; when neither this nor --validation is
            given, a tenth each is set aside as val and test, lesion by lesion, and written to splits.csv in the run.
        validation: Folders of the photos with masks that choose the best pass: all of them, or with --splits those that
            it puts into val.
    """
    options.validate()
    if os.environ.get("RANK", "0") != "0":  # of torchrun's processes only the first one speaks
        output = Output(quiet=True)
    if splits is None and not validation:
        splits = _own_splits(folders, make_output_folder(out), output)
    with interruptible() as cancel, progress(output.quiet, keep_messages=True) as on_event:
        cases, judges = (
            check_cases(_cases(*where), on_event=on_event, cancel=cancel)
            for where in ((folders, splits, "train"), (validation or folders, splits, "val"))
        )
        say(f"To learn from: {cases.as_text()}\nTo choose by: {judges.as_text()}", quiet=output.quiet)
        outcome = run_training(cases.usable, judges.usable, options, out, on_event, cancel)
    if output.json:
        print_json(asdict(outcome))
    elif outcome.model and not output.quiet:
        print(f"{outcome.model}: validation Dice {outcome.best_dice:.4f} after {outcome.passes} passes.")
        print(f"To use it: napari-skinseg models add {outcome.model}")
    return INTERRUPTED if outcome.cancelled else DONE


@app.command
def export(
    project: Path,
    /,
    *,
    out: Path,
    options: ExportOptions = ExportOptions(),
    output: Output = Output(),
) -> int:
    """Export a reviewed project: masks, overlays, one table, COCO files and a folder that train takes.

    Args:
        project: Folder of the project; it is only read, and may be open in napari meanwhile.
        out: New or empty folder, or one of an earlier export.
    """
    options.validate()
    with (
        Project.open(project, read_only=True) as opened,
        interruptible() as cancel,
        progress(output.quiet) as on_event,
    ):
        outcome = export_project(opened, out, options, on_event, cancel)
    for _, sentence in outcome.failed:
        say(sentence)
    if output.json:
        print_json(asdict(outcome))
    elif not output.quiet:
        print(f"{len(outcome.done)} masks in {outcome.folder}. {outcome.blind.in_words()}".rstrip())
    if outcome.cancelled:
        return INTERRUPTED
    return SOME_FAILED if outcome.failed else DONE


def _own_splits(folders: Sequence[Path], out: Path, output: Output) -> Path:
    """The split file of a run that was given none; made once, so that going on with the run keeps it."""
    path = out / "splits.csv"
    if not path.exists():
        write_splits(path, divide(_cases(folders), on_event=lambda event: say(event.message, quiet=output.quiet)))
    return path


def _segment(
    photos: list[Path], out: Path, using: With, options: BatchOptions, output: Output
) -> tuple[BatchOutcome, Segmenter]:
    make_output_folder(out)
    with interruptible() as cancel:
        segmenter = Segmenter(using.model, using.device, say)
        say(f"{segmenter.spec.name} on {segmenter.device_line}", quiet=output.quiet)
        with progress(output.quiet) as on_event:
            outcome = segment_files(photos, out, segmenter, options, on_event, cancel)
    for _, sentence in outcome.failed:
        say(sentence)
    return outcome, segmenter


def _code(outcome: BatchOutcome) -> int:
    if outcome.cancelled:
        return INTERRUPTED
    if not outcome.failed:
        return DONE
    return SOME_FAILED if outcome.done else BAD_INPUT


def _in_words(outcome: BatchOutcome, out: Path) -> str:
    """What a person should know about the run, and look at first."""
    done, kept = outcome.done, sum(result.kept for result in outcome.done)
    lines = [
        f"{len(done)} {'mask' if len(done) == 1 else 'masks'} in {out}"
        + (f", {kept} of them as they were" * bool(kept))
    ]
    if outcome.table:
        lines.append(f"Table: {outcome.table} (measurement only, not a diagnosis)")
    empty = [f"{r.name} ({100 * (r.confidence or 0):.0f} %)" if r.withheld else r.name for r in done if r.empty]
    doubtful = [r.name for r in done if not r.empty and r.confidence is not None and r.confidence < FAILURE_JACCARD]
    if empty:
        lines.append(f"No lesion found in {_some(empty)}")
    if any(result.withheld for result in done):
        lines.append(
            "In brackets: the expected overlap of the likeliest outline, which is not drawn. "
            "To have it drawn: napari-skinseg segment --always-outline --overwrite"
        )
    if doubtful:
        lines.append(f"Likely wrong, look at these first: {_some(doubtful)}")
    if outcome.failed:
        lines.append(f"Failed: {_some([str(path) for path, _ in outcome.failed])}")
    if outcome.cancelled:
        lines.append("Stopped before the end; the same command goes on from here.")
    return "\n".join(lines)


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _as_json(outcome: BatchOutcome, segmenter: Segmenter) -> dict[str, Any]:
    return {
        "model": segmenter.spec.name,
        "weights_sha256": segmenter.model.sha256,
        "device": segmenter.device_line,
        "table": outcome.table,
        "cancelled": outcome.cancelled,
        "done": [asdict(result) for result in outcome.done],
        "failed": [{"file": path, "error": sentence} for path, sentence in outcome.failed],
    }


def _cases(folders: Sequence[Path], splits: Path | None = None, split: str = "") -> list[Case]:
    """The cases below the folders, of one split if there is a split file."""
    cases = [case for folder in folders for case in find_cases(folder)]
    return apply_splits(cases, splits, split) if splits else cases
