"""What every training loop builds on: weights with their optimizer, checkpoints, several processes."""
