"""A reward model or judge and held-out comparisons in; a report of how far it can be trusted out."""

from guerdon.auditing.run import audit

__all__ = ["audit"]
