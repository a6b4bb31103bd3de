"""Many photos through a model, to masks and one table."""
