"""The curve of a running fine-tuning."""

from qtpy.QtGui import QImage

from napari_skinseg.plugin.finetune.curve import CurvePoints, plot_points

LOSSES = [(1.0, 0.5), (20.0, 0.3)]


def has_right_scale(image: QImage) -> bool:
    """Whether anything is plotted to the right of the axes, which end at 87 % of the width."""
    columns = range(round(0.9 * image.width()), image.width())
    return any(image.pixelColor(x, y).alpha() for x in columns for y in range(40, image.height()))


def test_dice_has_a_scale_as_soon_as_it_was_measured():
    assert not has_right_scale(plot_points(CurvePoints(LOSSES, {}), (320, 150), 1))
    assert has_right_scale(plot_points(CurvePoints(LOSSES, {1: [(20.0, 0.9, 0.88)]}), (320, 150), 1))
