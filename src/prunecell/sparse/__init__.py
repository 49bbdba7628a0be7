"""The sparse runtime: layers that stay small in memory and are fast on a CPU.

formats, values, matrix         a compressed matrix: how it is written, read back and checked
compress                        made from a stream of its elements
checked, inputs, registry       its way into torch's operators, and what they take
packed, multiply, convolve      the kernels' copies of a matrix; which kernel computes a product, on which threads
quads, quantised, quantised_op  linear layers in int8 arithmetic: their product, their short way, their operator
linear_op, convolution_op, dense_weight   torch's operators, and weights as tensors
ready, convolved                the short way of a layer to the kernels
route, chain                    that of several, with what stands between them
layers, recurrent, attention    the sparse layers
choose, break_even, tune        which form each layer takes, by measured times
plain, converters               which dense layer becomes which sparse one, and which does more than its kind
places, matching, sources       the tensors of a model, and those of a file for them
survey, loading                 what each weight becomes, decided first; what no sparse layer takes, by load_state_dict
conversion, convert             compact_
aside                           who else holds a layer, a parameter or its memory
links, joints                   what a chain takes; what containers do for the sparse layers in them
facts                           compact_report: what became of each, and why some stayed dense
meta                            meta_weights: a model without memory for its weights
"""

from prunecell.sparse.convert import compact_
from prunecell.sparse.facts import compact_report
from prunecell.sparse.meta import meta_weights
from prunecell.sparse.tune import tune_runtime

__all__ = ["compact_", "compact_report", "meta_weights", "tune_runtime"]
