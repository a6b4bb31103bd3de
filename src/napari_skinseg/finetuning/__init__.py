"""Fine-tune a model on corrected masks and compare it with its base before it is used."""
