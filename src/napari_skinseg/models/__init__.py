"""Networks, model bundles, the store of models, export formats and click channels."""
