"""The search for the smallest file that is good enough, and the recipe that it begins with.

search          tune(); running: one call of it; strategies: the ways that it tries; bisection: of a knob
layers          sensitivity(): which layers bear pruning
recipe          a plan and a learning rate to begin with
bench, quality, loaders   what the trials share: training, judging, data
trials, result, curve, pasted   what was found: as data, as a picture, as text to paste
"""

from prunecell.tuning.layers import Sensitivity, sensitivity
from prunecell.tuning.recipe import default_plan
from prunecell.tuning.result import Tuned
from prunecell.tuning.search import tune
from prunecell.tuning.strategies import STRATEGIES

__all__ = ["STRATEGIES", "Sensitivity", "Tuned", "default_plan", "sensitivity", "tune"]
