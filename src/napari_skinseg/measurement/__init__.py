"""Measurements of a lesion, computed from a mask and its photo."""
