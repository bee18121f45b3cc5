"""Critique, revision and comparison under the principles of a constitution."""
