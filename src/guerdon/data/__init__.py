"""Judgments in, comparisons out: importers, human ratings, hygiene, the split by prompt group."""
