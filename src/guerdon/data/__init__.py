"""Judgments in, comparisons out: importers, human ratings, checks, the split by prompt group."""
