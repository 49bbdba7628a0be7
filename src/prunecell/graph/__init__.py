"""The graph of a model: what its layers hand to each other.

tracing     a model as torch.fx traces it
operations  what an operation does to the units that pass it
chains      the hidden units: who computes them, and who alone reads them
"""

from prunecell.graph.chains import Chains, HiddenLayer, Reading, Step, chains_of

__all__ = ["Chains", "HiddenLayer", "Reading", "Step", "chains_of"]
