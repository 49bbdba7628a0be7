"""Plans: which parameters of a model are pruned, and how each.

spec         PruneSpec: how a weight is pruned
computed     weights that a layer computes from parameters: weight norm, parametrizations
prunable     what is a weight: by shape and owner
candidates   the parameters of a model, with all their names and owners
resolve      a plan applied to a model
"""

from prunecell.plan.resolve import Key, Plan, Skipped, Target, Use, resolve
from prunecell.plan.spec import PruneSpec

__all__ = ["Key", "Plan", "PruneSpec", "Skipped", "Target", "Use", "resolve"]
