"""Which comparisons to label next: unlabeled rows in, picks with their propensities out."""
