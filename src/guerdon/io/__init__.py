"""Paths in, objects out, and back: the only place that reads and writes files of data, runs and reports."""
