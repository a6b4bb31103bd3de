"""An annotation project: an SQLite index, mask files, a lock, scan, repair, queue and export."""
