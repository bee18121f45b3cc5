"""Reward models in, numbers over HTTP out: one queue for the protocols of all trainers."""
