"""The napari plugin: one widget with a tab per action."""
