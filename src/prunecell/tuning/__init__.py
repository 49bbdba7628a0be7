"""The search for the smallest file that is good enough, and the plan that it begins with.

entry        tune(), and what it refuses
problem      what a search is asked
beginning    what it finds out once, and the dense model
search       what it tries, one trial after the other
ending       its smallest file, and its curve
ray_tune     many searches side by side, as trials of Ray Tune; imported only by who wants it
strategies   the ways to make a model small that it tries
bisection    of a strategy's knob
bench        what trials share, and the training of one
trials       what was tried, in a log
quality      what is good enough, and who judges
chance       whether the dense model seems to know anything
fingerprint  whether data is the same as before
loaders      the data, in the same order whenever it is asked for
layers       sensitivity(): which layers bear pruning
defaults     a plan and a learning rate to begin with
result       what was found
curve        its picture
pasted       plans and programs as text to paste
named        what a script defines for the command
"""

from prunecell.tuning.defaults import default_plan
from prunecell.tuning.entry import tune
from prunecell.tuning.layers import Sensitivity, sensitivity
from prunecell.tuning.result import Tuned
from prunecell.tuning.strategies import STRATEGIES

__all__ = ["STRATEGIES", "Sensitivity", "Tuned", "default_plan", "sensitivity", "tune"]
