"""Images with masks on disk: datasets and annotation projects. Never imports torch or models."""
