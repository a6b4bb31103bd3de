"""Segment all photos of a folder into a sub-folder, as the command line does."""

from pathlib import Path

from napari_skinseg.batch.folder import BatchOptions, BatchOutcome, segment_files
from napari_skinseg.events import CancelToken, Event
from napari_skinseg.plugin.background import Report
from napari_skinseg.plugin.session import Segmenters
from napari_skinseg.segmentation.options import SegmentOptions

RESULTS = "skinseg-results"
"""Name of the sub-folder for masks, overlays and the table."""


def segment_folder(
    folder: Path,
    options: SegmentOptions,
    segmenters: Segmenters,
    model: str,
    device: str,
    report: Report,
    cancel: CancelToken,
) -> str:
    """Segment the photos of `folder`, and return what was done, in words; a cancelled run keeps what is finished.

    Raises:
        BadInput: the folder has no photo or cannot be written, or the model or the device cannot be used.
    """
    report(Event("load", message=f"Loading {model}…"))
    segmenter = segmenters.get(model, device)
    report(Event("load", message=f"Searching {folder.name} for photos…"))
    batch = BatchOptions(overlay=True, measure=True, segment=options)
    outcome = segment_files([folder], folder / RESULTS, segmenter, batch, on_event=report, cancel=cancel)
    return _describe(outcome, folder / RESULTS)


def _describe(outcome: BatchOutcome, out: Path) -> str:
    done, kept = len(outcome.done), sum(result.kept for result in outcome.done)
    sentences = ["Cancelled; finished masks stay."] if outcome.cancelled else []
    sentences.append(f"{done} of {outcome.total} photos have a mask. Masks, overlays and the table are in {out}.")
    if kept:
        sentences.append(f"{kept} of the masks existed before and were kept.")
    sentences += [sentence for _, sentence in outcome.failed]
    return "\n".join(sentences)
