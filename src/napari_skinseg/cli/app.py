"""The commands of `napari-skinseg`. A command imports its modules when it is first used."""

from cyclopts import App

COMMANDS = {
    "segment": "Segment the lesion in each photo and write a mask, <photo>_segmentation.png, in the size of the photo.",
    "demo": "Segment and measure your photos, or four generated ones, and print a table.",
    "evaluate": "Compare the masks of a model with masks that people drew.",
    "train": "Train a new model on photos with masks. The same command continues a run that was stopped.",
    "finetune": "Match the border of a model to corrected masks, and fine-tune it; held-out photos judge each step.",
    "export": "Export a reviewed project: masks, overlays, a table, COCO files and a folder for `train`.",
    "models": "List, inspect, share and choose models.",
}
"""Module and function of each command, and its first sentence, so that `--help` imports no module."""

app = App(
    name="napari-skinseg",
    help="Outline skin lesions in dermoscopic photographs. A research tool, not a medical device.",
    help_format="plaintext",
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
for _name, _help in COMMANDS.items():
    app.command(f"napari_skinseg.cli.{_name}:{_name}", name=_name, help=_help)
