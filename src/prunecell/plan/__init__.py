"""Plans: which parameters of a model are pruned, and how each.

computed     weights that a layer computes from parameters: weight norm, parametrizations
prunable     what is a weight: by shape and owner
candidates   the parameters of a model, with all their names and owners
resolve      a plan applied to a model
"""

from prunecell.plan.resolve import Key, Plan, Skipped, Target, Use, resolve

__all__ = ["Key", "Plan", "Skipped", "Target", "Use", "resolve"]
