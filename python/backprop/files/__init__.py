"""Files of tensors, models and checkpoints."""
