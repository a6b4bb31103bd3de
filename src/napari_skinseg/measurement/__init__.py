"""Numbers computed from a mask and its photo."""
