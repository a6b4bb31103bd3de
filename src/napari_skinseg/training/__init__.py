"""Train a model on photos with masks, and calibrate it."""
