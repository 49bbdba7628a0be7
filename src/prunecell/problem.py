"""Problem: what the main job learns. Whoever describes networks makes one; `job` runs it."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from prunecell.plan import Plan
from prunecell.spec import PruneSpec
from prunecell.training import Batches


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A network, how it is pruned, and the data that it learns.

    Attributes:
        name: in titles and file names.
        build: makes the network; the same one after the same `torch.manual_seed`.
        plan: what is pruned.
        make_optimizer: the optimizer of a network that `build` made.
        train: epoch number (from 0) -> its batches.
        validation: -> batches on which each epoch ends; None: there are none.
        test: -> batches.
        epoch_size: training samples in an epoch.
        loss: (scores, labels) -> a scalar.
        description: all that decides about the result, line by line; a run goes on under the same only.
    """

    name: str
    build: Callable[[], nn.Module]
    plan: Plan | PruneSpec
    make_optimizer: Callable[[nn.Module], Optimizer]
    train: Callable[[int], Batches]
    validation: Callable[[], Batches] | None
    test: Callable[[], Batches]
    epoch_size: int
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
    description: str = ""
