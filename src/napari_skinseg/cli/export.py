"""`napari-skinseg export`: export a reviewed project."""

from dataclasses import asdict
from pathlib import Path

from napari_skinseg.project.export import ExportOptions, export_project
from napari_skinseg.project.project import Project

from .exit_codes import DONE, INTERRUPTED, SOME_FAILED
from .options import Output, remove_prefix
from .terminal import interruptible, print_json, progress, say

remove_prefix(ExportOptions)


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
        print(outcome.in_words())
    if outcome.cancelled:
        return INTERRUPTED
    return SOME_FAILED if outcome.failed else DONE
