"""What every training loop stands on: weights under an optimizer, checkpoints, several processes."""
