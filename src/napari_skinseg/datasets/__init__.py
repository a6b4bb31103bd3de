"""Folders of photos and masks: find cases, check them, split them by lesion."""
