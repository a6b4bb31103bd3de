"""Segment many photos: masks, overlays, one table, and a record of each mask."""
