"""What every training loop stands on: weights under an optimiser, checkpoints, several processes."""
