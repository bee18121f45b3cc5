"""Judges whose calls go through files: a provider's batches, or workers of a cluster."""
