"""What a run came to: the facts, as a table or as JSON, and a picture.

facts      Report: what was pruned, and what was left alone
table      how facts are printed
picture    sparsity and accuracy over the epochs
"""

from prunecell.report.facts import Report, WeightFacts

__all__ = ["Report", "WeightFacts"]
