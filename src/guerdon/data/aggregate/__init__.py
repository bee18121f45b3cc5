"""Many judgments of a pair in, one comparison of it out: its soft label, and what the annotators are worth."""

from guerdon.data.aggregate.annotators import Annotator
from guerdon.data.aggregate.run import Aggregation, aggregate

__all__ = ["Aggregation", "Annotator", "aggregate"]
