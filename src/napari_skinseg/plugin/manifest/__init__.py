"""What napari.yaml names besides the widget: reader, writer and sample photos."""
