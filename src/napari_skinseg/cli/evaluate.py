"""`napari-skinseg evaluate`: compare the masks of models with masks that people drew."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from napari_skinseg.errors import BadInput
from napari_skinseg.evaluation.evaluate import EvaluateOptions, evaluate_many
from napari_skinseg.evaluation.result_files import REPORT, write_results
from napari_skinseg.evaluation.tables import as_text
from napari_skinseg.files import make_output_folder
from napari_skinseg.pixels.cleaning import CleanUp
from napari_skinseg.segmentation.options import SegmentOptions
from napari_skinseg.segmentation.segmenter import Segmenter

from .cases import cases_in
from .exit_codes import DONE, SOME_FAILED
from .options import ModelChoice, Output, remove_prefix
from .terminal import interruptible, print_json, progress, say

remove_prefix(EvaluateOptions, SegmentOptions, CleanUp)


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
    cases = cases_in(folders, splits, split)
    if out is not None:
        make_output_folder(out)
    segmenters = [Segmenter(name, using.device, say, using.precision) for name in several or (using.model,)]
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
