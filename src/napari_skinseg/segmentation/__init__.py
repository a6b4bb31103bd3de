"""Segmentation of a photo, with or without clicks: probability, mask and confidence."""
