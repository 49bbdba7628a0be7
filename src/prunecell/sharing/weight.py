"""One parameter whose weights take few values."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunecell.codecs.kmeans import cluster
from prunecell.enforcement.gradients import Stamp
from prunecell.errors import OptionError

MAX_BITS = 8


@dataclass(eq=False)
class SharedWeight:
    """One parameter whose weights share values.

    Attributes:
        parameter: (...) floats.
        cluster: (...) of the parameter's shape and device: 0 where the weight is zero for good, else 1 + the
            index of its shared value. uint8, or int16 where 8 bits and the zero need 257 numbers.
        sizes: float64, (1 + n_clusters,), the weights in each cluster, at least 1.
        reduced: the gradient that was reduced last, as it was then.
    """

    parameter: nn.Parameter
    cluster: Tensor
    sizes: Tensor
    reduced: Stamp | None = None

    def follow(self) -> None:
        """Look at the weights of now: they may have moved to another device, and a Pruner may have pruned some more."""
        if self.cluster.device != self.parameter.device:
            self.cluster, self.sizes = self.cluster.to(self.parameter.device), self.sizes.to(self.parameter.device)
        newly = (self.parameter.data == 0) & (self.cluster != 0)
        if bool(newly.any()):
            self.cluster = self.cluster.masked_fill(newly, 0)
            counts = torch.bincount(self.cluster.flatten(), minlength=len(self.sizes))
            self.sizes = counts.double().clamp(min=1)

    def reduce_gradient_(self, *, sum_gradients: bool) -> None:
        """Replace the gradients of each cluster by their mean or sum, once."""
        gradient = self.parameter.grad
        if gradient is None or (self.reduced is not None and self.reduced.still_holds(gradient)):
            return
        if gradient.layout is not torch.strided:  # optimizers that take sparse gradients take no others
            return
        totals = self.totals(gradient)
        self.spread_(gradient, totals if sum_gradients else totals / self.sizes)
        self.reduced = Stamp.of(gradient)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"reduced": None}  # a copy has a gradient of its own

    def totals(self, numbers: Tensor) -> Tensor:
        """Sum numbers, of the parameter's shape, over each cluster; float64; 0 for the weights that are zero."""
        sums = torch.bincount(self.cluster.flatten(), numbers.flatten().double(), minlength=len(self.sizes))
        sums[0] = 0.0
        return sums

    def spread_(self, numbers: Tensor, per_cluster: Tensor) -> None:
        """Give every weight the number of its cluster."""
        numbers.copy_(per_cluster.to(numbers.dtype)[self.cluster.int()])

    @property
    def is_shared(self) -> bool:
        """Whether each cluster has one value, and what is zero for good is zero; any weight may be zero."""
        values, index = self.parameter.data.flatten(), self.cluster.flatten().to(self.parameter.device).long()
        of_cluster = torch.zeros_like(self.sizes, dtype=values.dtype, device=values.device)
        kept = (values != 0) & (index != 0)
        of_cluster[index[kept]] = values[kept]  # of any one of them
        return bool(((values == of_cluster[index]) | (values == 0)).all())

    def project_(self) -> None:
        """Replace the weights of each cluster by their mean; what is zero now stays zero."""
        self.follow()
        self.spread_(self.parameter.data, self.totals(self.parameter.data) / self.sizes)


def clustered(name: str, parameter: nn.Parameter, bits: int, entropy: float) -> SharedWeight:
    """The clusters of the weights of now; nothing is changed.

    Raises:
        OptionError: a weight is inf or NaN.
    """
    weight = parameter.data
    if not bool(weight.isfinite().all()):
        raise OptionError(f"parameter {name!r} cannot be shared: it holds inf or NaN")
    kept = weight != 0
    values = weight[kept].double().cpu().numpy()
    clusters = cluster(values, 1 << bits, entropy=entropy)
    index = torch.zeros(weight.shape, dtype=torch.uint8 if bits < MAX_BITS else torch.int16, device=weight.device)
    index[kept] = torch.from_numpy(clusters.assign(values) + 1).to(index)
    return with_cluster(parameter, index)


def with_cluster(parameter: nn.Parameter, index: Tensor) -> SharedWeight:
    """A weight whose clusters are given, as `SharedWeight` has them."""
    sizes = torch.bincount(index.flatten()).double().clamp(min=1)
    return SharedWeight(parameter=parameter, cluster=index, sizes=sizes)
