"""Pruning: the Pruner, which keeps weights at zero while a model trains, and prunes more as time goes by.

weight       one parameter under a mask, and what the mask hides
normed       weights that their layer divides by a norm
group        the weights under one spec as time goes by
reach        whether a schedule's end can be reached
hooks        what the Pruner hangs on parameters and optimizers
calibration  what some batches tell, without a step of training
unfinished   what weights wait for, and what has not come to its end
state        what state_dict holds
pruner       the Pruner
"""

from prunecell.pruning.pruner import Pruner

__all__ = ["Pruner"]
