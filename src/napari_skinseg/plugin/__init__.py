"""The napari face: the only room that imports napari or Qt."""
