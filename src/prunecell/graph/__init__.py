"""The graph of a model: what its layers hand to each other, and what may change without changing an output.

tracing     a model as torch.fx traces it
answers     what follows from the shapes of an example
operations  what an operation does to the units that pass it
forms       how many dimensions tensors have, and which one the units are
unchanged   what a model's code does while it is traced, undone
chains      the hidden units: who computes them, and who alone reads them
units       dead units removed, others sorted
folding     BatchNorm folded into the layer before
"""

from prunecell.graph.chains import Chains, HiddenLayer, Reading, Step, chains_of
from prunecell.graph.folding import fold_batchnorm_
from prunecell.graph.units import remove_dead_, sort_units_, tidied_

__all__ = [
    "Chains",
    "HiddenLayer",
    "Reading",
    "Step",
    "chains_of",
    "fold_batchnorm_",
    "remove_dead_",
    "sort_units_",
    "tidied_",
]
