"""`napari-skinseg segment`: outline the lesion in each photo."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from napari_skinseg.batch.cluster import ClusterOptions, segment_on_cluster
from napari_skinseg.batch.folder import BatchOptions, BatchOutcome, segment_files
from napari_skinseg.batch.records import merge_parts
from napari_skinseg.batch.storage import Place
from napari_skinseg.errors import BadInput
from napari_skinseg.pixels.cleaning import CleanUp
from napari_skinseg.pixels.metrics import FAILURE_JACCARD
from napari_skinseg.segmentation.options import SegmentOptions
from napari_skinseg.segmentation.segmenter import Segmenter

from .exit_codes import BAD_INPUT, DONE, INTERRUPTED, SOME_FAILED
from .options import ModelChoice, Output, remove_prefix
from .terminal import interruptible, print_json, progress, say

remove_prefix(BatchOptions, SegmentOptions, CleanUp)


def segment(
    paths: list[str] | None = None,
    /,
    *,
    out: str = "segmentations",
    merge: str | None = None,
    ray: str | None = None,
    using: ModelChoice = ModelChoice(),
    options: BatchOptions = BatchOptions(),
    output: Output = Output(),
) -> int:
    """Segment the lesion in each photo and write a mask, <photo>_segmentation.png, in the size of the photo.

    Args:
        paths: Photos, or folders of photos with all sub-folders. The masks get the same sub-folders in --out. A folder
            can be in a bucket: s3://bucket/photos.
        out: Folder for the masks, or its address in a bucket.
        merge: Output folder of a run in parts (--part): put the records and tables of all parts together, and segment
            nothing.
        ray: Run on a Ray cluster: local (on this computer), auto, HOST:PORT or ray://HOST:PORT.
    """
    if ray and (merge or options.part):
        raise BadInput(
            "--ray divides the photos into parts and merges them by itself; use it without --part and --merge."
        )
    if merge is not None:
        if paths or options.part:
            raise BadInput("--merge segments nothing; use it without PATHS and --part.")
        print(f"{merge_parts(merge, options.parquet)} masks in {merge}")
        return DONE
    options.validate()
    if not paths:
        raise BadInput("PATHS are missing; give photos or folders of photos.")
    outcome, segmenter = run_segment(paths, out, using, options, output, ray)
    if output.json:
        on_cluster = {"device": f"Ray cluster {ray}", "computed_by": None} if ray else {}
        print_json(to_json(outcome, segmenter) | on_cluster)
    elif not output.quiet:
        print(describe_run(outcome, out))
    return exit_code(outcome)


def run_segment(
    paths: Sequence[Place],
    out: Place,
    using: ModelChoice,
    options: BatchOptions,
    output: Output,
    ray: str | None = None,
) -> tuple[BatchOutcome, Segmenter]:
    """Segment photos with progress and Ctrl+C, and print a sentence for each photo that failed."""
    with interruptible() as cancel:
        segmenter = Segmenter(using.model, "cpu" if ray else using.device, say, using.precision)
        device = f"the Ray cluster {ray}" if ray else segmenter.device_line
        say(f"{segmenter.spec.name} on {device}", quiet=output.quiet)
        with progress(output.quiet) as on_event:
            if ray:
                cluster = ClusterOptions(ray, using.model, using.device, using.precision)
                outcome = segment_on_cluster(paths, out, cluster, options, on_event, cancel)
            else:
                outcome = segment_files(paths, out, segmenter, options, on_event, cancel)
    for _, sentence in outcome.failed:
        say(sentence)
    return outcome, segmenter


def exit_code(outcome: BatchOutcome) -> int:
    """Return the exit code of a run."""
    if outcome.cancelled:
        return INTERRUPTED
    if not outcome.failed:
        return DONE
    return SOME_FAILED if outcome.done else BAD_INPUT


def describe_run(outcome: BatchOutcome, out: Place) -> str:
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


def to_json(outcome: BatchOutcome, segmenter: Segmenter) -> dict[str, Any]:
    """Return what --json prints."""
    return {
        "model": segmenter.spec.name,
        "weights_sha256": segmenter.sha256,
        "device": segmenter.device_line,
        "computed_by": segmenter.engine,
        "table": outcome.table,
        "cancelled": outcome.cancelled,
        "done": [
            {field.name: getattr(result, field.name) for field in fields(result) if field.name != "row"}
            | {"measures": result.measures}
            for result in outcome.done
        ],
        "failed": [{"file": path, "error": sentence} for path, sentence in outcome.failed],
    }
