"""Runs a language model over many texts: no shared token is computed twice, and nothing is padded."""
