"""What a run came to: the facts, as a table or as JSON, and a picture."""

from prunecell.report.facts import Report, WeightFacts

__all__ = ["Report", "WeightFacts"]
