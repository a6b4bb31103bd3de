"""The reader, the writer and the sample photos that napari.yaml names."""
