"""The sparse runtime: layers that stay small in memory and are fast on a CPU.

formats, compress        a compressed matrix: how it is written, read back and checked; made from a stream
checked, registry        its way into torch's operators
linear_op, convolution_op
layers, recurrent, attention
choose, tune, convert    which form each layer takes, by measured times; compact_
"""

from prunecell.sparse.convert import compact_
from prunecell.sparse.tune import tune_runtime

__all__ = ["compact_", "tune_runtime"]
