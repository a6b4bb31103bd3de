"""Networks, model bundles, the store of models, export formats, click channels."""
