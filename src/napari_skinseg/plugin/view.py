"""Open a photo, its mask and the widget in a new napari: `python -m napari_skinseg.plugin.view PHOTO MASK`.

`napari-skinseg demo --view` starts this as a separate process, because the command line does not import napari.
"""

import sys
from pathlib import Path

import napari

from napari_skinseg.pixels.image import read_image
from napari_skinseg.pixels.mask import read_mask

from .layers import photo_from_layer
from .mask_layers import show_mask


def open_photo_and_mask(viewer: "napari.Viewer", photo: Path, mask: Path) -> None:
    """Add the photo, its mask as a layer that the widget recognises as the photo's, and the widget."""
    layer = viewer.add_image(read_image(photo), rgb=True, name=photo.stem)
    image = photo_from_layer(layer, viewer.dims.point)
    show_mask(viewer.layers, image, read_mask(mask, image.shape), {"photo": str(photo)})
    viewer.window.add_plugin_dock_widget("napari-skinseg")
    viewer.reset_view()


if __name__ == "__main__":
    open_photo_and_mask(napari.Viewer(), *map(Path, sys.argv[1:]))
    napari.run()
