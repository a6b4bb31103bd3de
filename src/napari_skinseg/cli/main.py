"""The command `napari-skinseg`: one command per action.

The options of a command come from the dataclass of the action, with defaults and help. No module of `cli` imports torch
before a command needs it. The exit codes are in `exit_codes`.
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
from .exit_codes import BAD_INPUT, BUG, DONE, INTERRUPTED, SOME_FAILED
from .finetune import finetune
from .models import Output, models
from .terminal import interruptible, print_json, progress, report_crash, say


@dataclass(frozen=True)
class ModelChoice:
    """Model and device.

    Attributes:
        model: Name of a model (see `models list`) or its folder; the default model when not given.
        device: auto, cuda, mps or cpu.
    """

    model: str | None = None
    device: str = "auto"


# Each field becomes an option without the name of its group: --threshold, not --segment.threshold.
for _options in (BatchOptions, CleanUp, EvaluateOptions, ExportOptions, SegmentOptions, TrainOptions, ModelChoice):
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
    """Run one command and return its exit code. Errors are printed as one sentence, never as a traceback."""
    try:
        return int(app(arguments, exit_on_error=False) or DONE)
    except CycloptsError:  # cyclopts has printed the error
        return BAD_INPUT
    except BadInput as error:
        say(str(error))
        return BAD_INPUT
    except (KeyboardInterrupt, Cancelled):
        say("Interrupted.")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output, such as `head`, has ended; prevents a second error at exit
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
    using: ModelChoice = ModelChoice(),
    options: BatchOptions = BatchOptions(),
    output: Output = Output(),
) -> int:
    """Segment the lesion in each photo and write a mask, <photo>_segmentation.png, in the size of the photo.

    Args:
        paths: Photos, or folders of photos with all sub-folders.
        out: Folder for the masks.
    """
    options.validate()
    outcome, segmenter = _segment(find_images(paths), out, using, options, output)
    if output.json:
        print_json(_as_json(outcome, segmenter))
    elif not output.quiet:
        print(_summary(outcome, out))
    return _exit_code(outcome)


@app.command
def demo(
    *,
    images: Path | None = None,
    out: Path = Path("demo-output"),
    view: bool = False,
    using: ModelChoice = ModelChoice(),
    output: Output = Output(),
) -> int:
    """Segment and measure your photos, or four generated ones, and print a table.

    Args:
        images: A photo or a folder of photos; generated photos with known masks when not given.
        out: Folder for masks, overlays and the table.
        view: Open the first result in napari afterwards, if there is a screen.
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
        print(_summary(outcome, out))
    if view and outcome.done and not open_in_napari(outcome.done[0]):
        say("napari was not opened: there is no screen, or napari is not installed.", quiet=output.quiet)
    return _exit_code(outcome)


@app.command
def evaluate(
    folders: list[Path],
    /,
    *,
    splits: Path | None = None,
    split: str = "test",
    several: Annotated[list[str] | None, Parameter(name="--models", consume_multiple=True, negative="")] = None,
    out: Path | None = None,
    using: ModelChoice = ModelChoice(),
    options: EvaluateOptions = EvaluateOptions(),
    output: Output = Output(),
) -> int:
    """Compare the masks of a model with masks that people drew.

    Args:
        folders: Folders of photos with masks.
        splits: CSV file with the split of each photo; all photos are used when not given.
        split: Split to use.
        several: Names or folders of models to compare on the same photos; each is compared with the first. Replaces
            --model.
        out: Folder for the table of photos (CSV), the summary (JSON) and a report with plots and the worst photos
            (HTML). The report holds photos: keep it on this computer.
    """
    options.validate()
    if several and using.model is not None:
        raise BadInput("--model and --models cannot be used together; give one of them.")
    cases = _cases(folders, splits, split)
    if out is not None:
        make_output_folder(out)
    segmenters = [Segmenter(name, using.device, say) for name in several or (using.model,)]
    for segmenter in segmenters:
        say(f"{segmenter.spec.name} on {segmenter.device_line}", quiet=output.quiet)
    with interruptible() as cancel, progress(output.quiet) as on_event:
        comparison = evaluate_many(segmenters, cases, options, on_event, cancel)
    results = comparison if len(segmenters) > 1 else comparison.evaluations[0]
    if out is not None:
        write_results(results, out)
        say(f"Report (it holds photos: keep it on this computer): {out / REPORT}", quiet=output.quiet)
    if output.json:
        print_json(results.to_json())
    elif not output.quiet:
        print(as_text(results))
    return SOME_FAILED if results.left_out else DONE


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
    """Train a new model on photos with masks. The same command continues a run that was stopped.

    Args:
        folders: Folders of photos with masks to train on.
        out: Folder of the run; the new model is written into it.
        splits: CSV file with the split of each photo: train, val or another. When neither this nor --validation is
            given, a tenth of the lesions becomes val and a tenth test, and the file is written to the run folder.
        validation: Folders of photos with masks for choosing the best pass: all photos, or with --splits those of the
            split val.
    """
    options.validate()
    if os.environ.get("RANK", "0") != "0":  # of the processes of torchrun, only the first prints
        output = Output(quiet=True)
    if splits is None and not validation:
        splits = _default_splits(folders, make_output_folder(out), output)
    with interruptible() as cancel, progress(output.quiet, keep_messages=True) as on_event:
        cases, judges = (
            check_cases(_cases(*where), on_event=on_event, cancel=cancel)
            for where in ((folders, splits, "train"), (validation or folders, splits, "val"))
        )
        say(f"Training: {cases.as_text()}\nValidation: {judges.as_text()}", quiet=output.quiet)
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
    """Export a reviewed project: masks, overlays, a table, COCO files and a folder for `train`.

    Args:
        project: Folder of the project. It is only read, and may be open in napari at the same time.
        out: New or empty folder, or folder of an earlier export.
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


def _default_splits(folders: Sequence[Path], out: Path, output: Output) -> Path:
    """Return the split file of a run without --splits; it is written once, so that a continued run uses the same."""
    path = out / "splits.csv"
    if not path.exists():
        write_splits(path, divide(_cases(folders), on_event=lambda event: say(event.message, quiet=output.quiet)))
    return path


def _segment(
    photos: list[Path], out: Path, using: ModelChoice, options: BatchOptions, output: Output
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


def _exit_code(outcome: BatchOutcome) -> int:
    if outcome.cancelled:
        return INTERRUPTED
    if not outcome.failed:
        return DONE
    return SOME_FAILED if outcome.done else BAD_INPUT


def _summary(outcome: BatchOutcome, out: Path) -> str:
    """Return the summary of a run: files, photos without a lesion, photos to check first, errors."""
    done, kept = outcome.done, sum(result.kept for result in outcome.done)
    lines = [f"{len(done)} {'mask' if len(done) == 1 else 'masks'} in {out}" + (f", {kept} of them kept" * bool(kept))]
    if outcome.table:
        lines.append(f"Table: {outcome.table} (measurement only, not a diagnosis)")
    empty = [f"{r.name} ({100 * (r.confidence or 0):.0f} %)" if r.withheld else r.name for r in done if r.empty]
    doubtful = [r.name for r in done if not r.empty and r.confidence is not None and r.confidence < FAILURE_JACCARD]
    if empty:
        lines.append(f"No lesion found in {_some(empty)}")
    if any(result.withheld for result in done):
        lines.append(
            "In brackets: the expected overlap of the most likely outline, which was withheld. "
            "To get this outline: napari-skinseg segment --always-outline --overwrite"
        )
    if doubtful:
        lines.append(f"Likely wrong, check these first: {_some(doubtful)}")
    if outcome.failed:
        lines.append(f"Failed: {_some([str(path) for path, _ in outcome.failed])}")
    if outcome.cancelled:
        lines.append("Stopped before the end; the same command continues.")
    return "\n".join(lines)


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _as_json(outcome: BatchOutcome, segmenter: Segmenter) -> dict[str, Any]:
    return {
        "model": segmenter.spec.name,
        "weights_sha256": segmenter.sha256,
        "device": segmenter.device_line,
        "table": outcome.table,
        "cancelled": outcome.cancelled,
        "done": [asdict(result) for result in outcome.done],
        "failed": [{"file": path, "error": sentence} for path, sentence in outcome.failed],
    }


def _cases(folders: Sequence[Path], splits: Path | None = None, split: str = "") -> list[Case]:
    """Return the cases in the folders; with a split file, only those of one split."""
    cases = [case for folder in folders for case in find_cases(folder)]
    return apply_splits(cases, splits, split) if splits else cases
