"""Hidden units that may go or change places without a change of what the model computes.

A unit whose outputs nobody reads, or that is always zero, is dead: all its weights may be zero. The units of a layer
may stand in any order, and an archive is 2 to 4 % smaller where they are sorted.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunecell.errors import OptionError
from prunecell.graph.chains import Chains, HiddenLayer, Reading, chains_of
from prunecell.graph.tracing import Example, check_unwatched
from prunecell.names import unwrapped


@torch.no_grad()
def dead_units(
    model: nn.Module | Chains, *, values: Mapping[str, Tensor] | None = None, example: Example = None
) -> dict[str, Tensor]:
    """Find what belongs to dead units; zeros in its place do not change what the model computes.

    A unit is never read if the columns of all its readers are zero. It is always zero if all its weights are, or its
    inputs, and its activation makes a zero of its bias: of a bias <= 0 before a ReLU. Behind a BatchNorm the unit must
    be zero both by the running statistics and by those of a batch. This is repeated until nothing more is found.

    Args:
        model: it is not changed; or what `chains_of` found in it, for repeated calls.
        values: name of a parameter -> what to look at in its place, where the model does not hold it.
        example: see `chains_of`.

    Returns:
        Name of a parameter, without the prefixes of wrappers -> bool, of its shape and on its device: True where it
        belongs to a dead unit, whether it is zero already or not: the unit's row, its bias, its numbers in a BatchNorm,
        and the columns that read it. Parameters without any have no entry.

    Raises:
        OptionError: torch.fx cannot trace the model; the message names the place.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> _ = net[2].weight.data[0, 1].zero_()
    >>> dead_units(net)["0.weight"].tolist()
    [[False, False], [True, True], [False, False]]
    """
    return _searched(model if isinstance(model, Chains) else chains_of(model, example), values or {}).found


@torch.no_grad()
def remove_dead_(model: nn.Module, *, example: Example = None) -> dict[str, Tensor]:
    """Set all weights and biases of dead units to zero; what the model computes stays the same.

    Shapes stay. Running statistics of a BatchNorm become 0 and 1 there.

    Args:
        model: changed in place.
        example: see `chains_of`.

    Returns:
        What `dead_units` found.

    Raises:
        OptionError: torch.fx cannot trace the model; nothing was changed.
    """
    chains = chains_of(model, example)
    search = _searched(chains, {})
    parameters = dict(unwrapped(model).named_parameters())
    for name, where in search.found.items():
        parameters[name].data.masked_fill_(where, 0.0)
    for layer in chains.layers:
        for norm in layer.norms.values():
            for vector, rest in ((norm.running_mean, 0.0), (norm.running_var, 1.0)):
                if vector is not None:
                    vector.masked_fill_(search.units[layer.name], rest)
    return search.found


@torch.no_grad()
def sort_units_(model: nn.Module, *, example: Example = None) -> dict[str, Tensor]:
    """Sort the units of each hidden layer by their number of weights that are not zero, descending, ties by index.

    Rows of the layer, its bias, the vectors of a BatchNorm and the columns of the readers move together. The model
    computes the same but for rounding: a reader adds up the same products in another order. An optimizer's moments, a
    `Pruner`'s masks and shared weights do not move along, so sort when training is over, or begin them afterwards.

    Args:
        model: changed in place; the parameters stay the same objects.
        example: see `chains_of`.

    Returns:
        Name of a layer -> int64, (units,), where each of its units was before. Layers that stayed as they were have no
        entry.

    Raises:
        OptionError: torch.fx cannot trace the model, or a Pruner, Quantizer or Sharing that is in use
            watches a weight. Nothing was changed.
    """
    chains = chains_of(model, example)
    orders = {}
    for layer in chains.layers:
        counts = _rows(layer, layer.module.weight).count_nonzero(1)
        order = counts.argsort(descending=True, stable=True)
        if not torch.equal(order, order.sort().values):
            orders[layer.name] = order
    moved = [layer for layer in chains.layers if layer.name in orders]
    for layer in moved:
        for name, module in ((layer.name, layer.module), *((r.name, r.module) for r in layer.readings)):
            check_unwatched(f"{name}.weight", module.weight, "sorted")
    for layer in moved:
        _move_(layer, orders[layer.name])
    return orders


def tidied_(model: nn.Module, *, example: Example = None) -> nn.Module:
    """The model with dead units at zero and hidden units sorted, as far as that can be proved to change no output.

    Args:
        model: changed in place; left as it is where torch.fx cannot trace it.
        example: see `chains_of`.
    """
    with suppress(OptionError):
        remove_dead_(model, example=example)
        sort_units_(model, example=example)
    return model


def _move_(layer: HiddenLayer, order: Tensor) -> None:
    """Let unit i be what unit order[i] was."""
    weight, bias = layer.module.weight, layer.module.bias
    weight.data.copy_(weight.data.index_select(layer.dim, order))
    vectors = [bias, *(v for norm in layer.norms.values() for v in _vectors(norm).values())]
    for vector in vectors:
        if isinstance(vector, Tensor):
            vector.data.copy_(vector.data[order])
    for reading in layer.readings:
        columns = order.unsqueeze(1) * reading.n_columns + torch.arange(reading.n_columns, device=order.device)
        weight = reading.module.weight
        weight.data.copy_(weight.data.index_select(reading.dim, columns.flatten()))


def _vectors(norm: nn.Module) -> dict[str, Tensor]:
    """What a BatchNorm has a number of for each unit."""
    named = {**norm._parameters, **norm._buffers}  # noqa: SLF001 - in one dict
    return {name: vector for name, vector in named.items() if vector is not None and vector.ndim == 1}


def _rows(layer: HiddenLayer, weight: Tensor) -> Tensor:
    """The weight of a layer as (units, weights of each)."""
    return weight.movedim(layer.dim, 0).flatten(1)


def _columns(reading: Reading, weight: Tensor, n_units: int) -> Tensor:
    """The weight of a reader as (units, weights that read each)."""
    return weight.movedim(reading.dim, 0).reshape(n_units, -1)


# ---- what is dead ----------------------------------------------------------------------------------------------------


def _searched(chains: Chains, values: Mapping[str, Tensor]) -> "_Search":
    search = _Search(chains, values)
    while sum(search.visit(layer) for layer in chains.layers):
        pass
    return search


class _Search:
    """What is known to be dead until now.

    Attributes:
        units: name of a layer -> bool, (units,).
        dead: name of a parameter -> bool, of its shape.
    """

    def __init__(self, chains: Chains, values: Mapping[str, Tensor]) -> None:
        self._values: dict[str, Tensor] = {}
        for layer in chains.layers:
            modules = {layer.name: layer.module, **layer.norms, **{r.name: r.module for r in layer.readings}}
            for path, module in modules.items():
                for leaf, parameter in module.named_parameters(recurse=False):
                    name = f"{path}.{leaf}"
                    self._values[name] = values.get(name, parameter.detach())
        self.dead = {name: torch.zeros_like(value, dtype=torch.bool) for name, value in self._values.items()}
        self.units = {layer.name: self.dead[f"{layer.name}.weight"].new_zeros(layer.n_units) for layer in chains.layers}

    @property
    def found(self) -> dict[str, Tensor]:
        """The parameters of which something is dead."""
        return {name: dead for name, dead in self.dead.items() if bool(dead.any())}

    def visit(self, layer: HiddenLayer) -> bool:
        """Look at one layer; whether more of its units are dead than before."""
        dead = torch.ones_like(self.units[layer.name])
        for reading in layer.readings:
            is_read = _columns(reading, self._now(f"{reading.name}.weight"), layer.n_units).any(1)
            dead &= ~is_read | self._are_always_zero(layer, reading)
        before, self.units[layer.name] = self.units[layer.name], dead
        self._mark(f"{layer.name}.weight", layer.dim, dead)
        for name in (f"{layer.name}.bias", *(f"{norm}.{leaf}" for norm in layer.norms for leaf in ("weight", "bias"))):
            if name in self.dead:
                self._mark(name, 0, dead)
        for reading in layer.readings:
            self._mark(f"{reading.name}.weight", reading.dim, dead.repeat_interleave(reading.n_columns))
        return not torch.equal(dead, before)

    def _now(self, name: str) -> Tensor:
        """The value of a parameter, zeros where it is dead."""
        return self._values[name].masked_fill(self.dead[name], 0.0)

    def _mark(self, name: str, dim: int, which: Tensor) -> None:
        """Declare slices of a parameter dead."""
        self.dead[name].movedim(dim, 0)[which] = True

    def _are_always_zero(self, layer: HiddenLayer, reading: Reading) -> Tensor:
        """Bool, (units,): which units give nothing but zeros to a reader, in evaluation and in training.

        NaN stands for what is not known, or not the same everywhere.
        """
        weight, bias = self._now(f"{layer.name}.weight"), f"{layer.name}.bias"
        nothing = torch.zeros(layer.n_units, dtype=weight.dtype, device=weight.device)
        constant = (self._now(bias) if bias in self.dead else nothing).masked_fill(
            _rows(layer, weight).any(1), torch.nan
        )
        evaluating, training = constant, constant
        for step in reading.steps:
            if step.kind == "norm":
                evaluating, training = self._normed(step.name, step.module, evaluating, training)
            elif step.kind == "keeps zero":
                evaluating, training = (x.masked_fill(x != 0, torch.nan) for x in (evaluating, training))
            else:
                evaluating, training = (step.compute(x.clone()) for x in (evaluating, training))
        return (evaluating == 0) & (training == 0)

    def _normed(self, name: str, norm: Any, evaluating: Tensor, training: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        """What BatchNorm makes of constants. In training a unit that is always 0 becomes the bias, exactly."""
        ones, zeros = torch.ones_like(training), torch.zeros_like(training)
        weight = self._now(f"{name}.weight") if f"{name}.weight" in self.dead else ones
        bias = self._now(f"{name}.bias") if f"{name}.bias" in self.dead else zeros
        unknown = bias.masked_fill((weight != 0) & (training != 0), torch.nan)
        if norm.running_mean is None:
            return unknown, unknown
        mean, var = norm.running_mean, norm.running_var
        normed = F.batch_norm(evaluating.unsqueeze(0), mean, var, weight, bias, eps=norm.eps).squeeze(0)
        return normed.where(weight != 0, bias), unknown
