"""Collecting what a criterion needs beside the values: in the steps before an update only, or from batches.

gradients    of one weight: of a step, and over many
hook         on a module, which a copy of the model does not keep
inputs       the norms of a layer's inputs
norm_scale   which BatchNorm reads a layer's output
collector    all of that, for one weight
"""

from prunecell.collect.collector import FROM_BATCHES, Collector, adds_up

__all__ = ["FROM_BATCHES", "Collector", "adds_up"]
