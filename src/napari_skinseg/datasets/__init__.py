"""Folders of photos and masks as cases, checks of them, and splits by lesion."""
