"""Calibration: what criteria need, collected from batches that run through the model as it is.

The gradients of parameters, optimizers, and buffers (BatchNorm's statistics) stay as they were.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DataParallel, DistributedDataParallel

from prunecell.checks import check_pair
from prunecell.choices import check_callable
from prunecell.collect.gradients import OF_GRADIENTS
from prunecell.errors import OptionError, OptionTypeError, some, typed
from prunecell.evidence import Needs
from prunecell.fillers import traits_of
from prunecell.pruning.weight import PrunedWeight
from prunecell.torch_checks import are_batches

Inputs = Tensor | tuple[Any, ...]
CalibrationBatches = Iterable[tuple[Inputs, Any]]
"""(inputs, targets); inputs are a tensor, or a tuple of all that the model takes."""
Loss = Callable[[Any, Any], Tensor]
"""(outputs, targets) -> a scalar."""

_RUN_PLAINLY = OF_GRADIENTS | Needs.INPUTS | Needs.NORM_SCALE


@dataclass(eq=False)
class Calibration:
    """One model, some batches, and the weights of which something is asked.

    Raises:
        OptionError: the batches can be read once, and have to be more often.
        OptionTypeError: they are no batches, or the loss is no function.
    """

    model: nn.Module
    weights: Sequence[PrunedWeight]
    batches: CalibrationBatches
    loss: Loss
    rounds: int

    def __post_init__(self) -> None:
        check_callable("loss", self.loss, {"cross_entropy": "torch.nn.functional.cross_entropy"})
        if not are_batches(self.batches):
            raise OptionTypeError(f"batches is {typed(self.batches)}: it must be pairs (inputs, targets)")
        per_round = bool(self._of(_RUN_PLAINLY)) + 2 * bool(self._of(Needs.HESSIAN_GRADIENT))
        n_passes = self.rounds * per_round + bool(self._of(Needs.SYNAPTIC_FLOW))
        if isinstance(self.batches, Iterator) and n_passes > 1:
            raise OptionError(
                f"batches is {typed(self.batches)}, which can be read once, and it is read {n_passes} times: give a"
                " list or a DataLoader"
            )
        while isinstance(self.model, DataParallel | DistributedDataParallel) or hasattr(self.model, "_orig_mod"):
            self.model = getattr(self.model, "_orig_mod", None) or self.model.module  # type: ignore[assignment] # a module

    def collect(self) -> None:
        """Collect all that the weights' criteria need.

        Raises:
            OptionError: there are no batches; what is computed is not finite or does not depend on a weight.
            OptionTypeError: a batch is no pair, or the loss no scalar.
        """
        try:
            for weight in self.weights:
                weight.collector.begin(afresh=True, in_any_mode=True)
            with _buffers_kept(self.model), torch.enable_grad():
                if self._of(_RUN_PLAINLY):
                    self._run_plainly()
                for weight in self.weights:
                    weight.collector.stop()
                if of_hessian := self._of(Needs.HESSIAN_GRADIENT):
                    self._keep(Needs.HESSIAN_GRADIENT, of_hessian, self._hessian_gradients(of_hessian))
                if of_flow := self._of(Needs.SYNAPTIC_FLOW):
                    self._keep(Needs.SYNAPTIC_FLOW, of_flow, self._flows(of_flow))
            self._check_whole()
        except BaseException:
            for weight in self.weights:
                weight.collector.end()
            raise

    def _check_whole(self) -> None:
        if lacking := [weight.name for weight in self.weights if not weight.collector.complete]:
            raise OptionError(
                f"what the criterion of {some(lacking)} needs did not come from the batches: does the model use it?"
            )

    def _of(self, needs: Needs) -> list[PrunedWeight]:
        return [weight for weight in self.weights if weight.collector.needs & needs]

    def _keep(self, need: Needs, weights: Sequence[PrunedWeight], found: Sequence[Tensor]) -> None:
        for weight, tensor in zip(weights, found, strict=True):
            weight.collector.from_batches[need] = tensor

    # ---- the batches

    def _pairs(self) -> Iterator[tuple[Inputs, Any]]:
        """The batches, of which there is one at least."""
        batch = None
        for batch in self.batches:
            yield check_pair(batch)
        if batch is None:
            raise OptionError("batches is illegal: it holds none")

    def _run(self, inputs: Inputs) -> Any:  # noqa: ANN401 - a model's outputs
        return self.model(*inputs) if isinstance(inputs, tuple | list) else self.model(inputs)

    def _losses(self) -> Iterator[Tensor]:
        for inputs, targets in self._pairs():
            loss = self.loss(self._run(inputs), targets)
            if not isinstance(loss, Tensor) or loss.numel() != 1:
                raise OptionTypeError(f"the loss returned {typed(loss)}: it must be a tensor with one number")
            if not bool(loss.isfinite()):
                raise OptionError(f"the loss of a batch is {loss.item()}: it must be finite")
            yield loss

    def _run_plainly(self) -> None:
        """One pass over the batches: hooks see inputs and outputs, and gradients are taken where they are needed."""
        weights = self._of(OF_GRADIENTS)
        if not weights:
            with torch.no_grad():
                for inputs, _ in self._pairs():
                    self._run(inputs)
        for loss in self._losses() if weights else ():
            for weight, gradient in zip(weights, _gradients(loss, weights), strict=True):
                weight.collector.gradients.add_batch(gradient, weight.values())

    # ---- second derivatives

    def _hessian_gradients(self, weights: Sequence[PrunedWeight]) -> list[Tensor]:
        """H g: H and g are sums over the batches, so each batch adds the gradient of (its own g) . (the sum of g)."""
        total = [torch.zeros_like(weight.parameter) for weight in weights]
        for loss in self._losses():
            _add_(total, _gradients(loss, weights))
        found = [torch.zeros_like(weight.parameter) for weight in weights]
        with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False):  # others have first ones only
            for loss in self._losses():
                own = _gradients(loss, weights, again=True)
                product = torch.stack([(one * other).sum() for one, other in zip(own, total, strict=True)]).sum()
                if product.requires_grad:  # otherwise the loss is linear
                    _add_(found, _gradients(product, weights, or_zero=True))
        return found

    # ---- synaptic flow

    @cached_property
    def _ones(self) -> tuple[Tensor, ...]:
        """One sample of ones, float64, of the shape of the first batch's."""
        inputs, _ = next(self._pairs())
        parts = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
        for part in parts:
            if not isinstance(part, Tensor) or not part.is_floating_point():
                raise OptionTypeError(f"the synaptic flow is of inputs that are ones: {typed(part)} cannot be")
        return tuple(torch.ones_like(part[:1], dtype=torch.float64) for part in parts)

    def _flows(self, weights: Sequence[PrunedWeight]) -> list[Tensor]:
        """dR/d|w|; see `Needs.SYNAPTIC_FLOW`. Biases and running means are 0: R is a product of the layers' |w|."""
        sizes = {name: _size(name, parameter) for name, parameter in self.model.named_parameters()}
        still = {name: _still(name, buffer) for name, buffer in self.model.named_buffers()}
        name_of = {id(parameter): name for name, parameter in self.model.named_parameters()}
        of_weights = [sizes[name_of[id(weight.parameter)]] for weight in weights]
        with _evaluating(self.model):
            outputs = functional_call(self.model, {**sizes, **still}, self._ones)
        if not isinstance(outputs, Tensor):
            raise OptionTypeError(
                f"the synaptic flow is of the sum of one output tensor: the model gives {typed(outputs)}"
            )
        flows = torch.autograd.grad(outputs.sum(), of_weights, allow_unused=True)
        for weight, flow in zip(weights, flows, strict=True):
            if flow is None or not bool(flow.isfinite().all()) or bool((flow < 0).any()) or not bool(flow.any()):
                kind = "no" if flow is None or not bool(flow.any()) else "an infinite or negative"
                raise OptionError(
                    f"there is {kind} synaptic flow through {weight.name!r}: SynFlow is for networks whose outputs grow"
                    " with every |weight|, such as those of Linear, convolutions, BatchNorm, ReLU and pooling"
                )
        return [flow for flow in flows if flow is not None]


def _gradients(
    loss: Tensor, weights: Sequence[PrunedWeight], *, again: bool = False, or_zero: bool = False
) -> list[Tensor]:
    """The gradients of a scalar.

    Args:
        loss: the scalar.
        weights: by which.
        again: they will be differentiated once more.
        or_zero: it need not depend on them.

    Raises:
        OptionError: it does not depend on a weight, or the gradient is not finite.
    """
    parameters = [weight.parameter for weight in weights]
    if not loss.requires_grad:
        raise OptionError("the loss does not depend on any weight: was it computed without gradients?")
    found: list[Tensor] = []
    gradients = torch.autograd.grad(loss, parameters, create_graph=again, allow_unused=True, materialize_grads=or_zero)
    for weight, gradient in zip(weights, gradients, strict=True):
        if gradient is None:
            raise OptionError(f"the loss does not depend on {weight.name!r}, and its criterion needs the gradient")
        if not bool(gradient.isfinite().all()):
            raise OptionError(f"the gradient of {weight.name!r} is not finite")
        found.append(gradient.to_dense())
    return found


def _add_(sums: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
    for one, tensor in zip(sums, tensors, strict=True):
        one.add_(tensor)


def _size(name: str, parameter: Tensor) -> Tensor:
    """|w| in float64; of a bias 0."""
    if not parameter.is_floating_point():
        return parameter.detach()
    size = parameter.detach().double().abs()
    return (size.zero_() if "bias" in name.rpartition(".")[2] else size).requires_grad_()


def _still(name: str, buffer: Tensor) -> Tensor:
    """A copy in float64; of a running mean 0."""
    if not buffer.is_floating_point():
        return buffer.clone()
    return torch.zeros_like(buffer, dtype=torch.float64) if name.endswith("running_mean") else buffer.double()


@contextmanager
def _buffers_kept(model: nn.Module) -> Iterator[None]:
    """Whatever runs, all buffers have the values of before."""
    places = [(m._buffers, name, b) for m in model.modules() for name, b in m._buffers.items()]  # noqa: SLF001
    before = [(buffers, name, b, b.clone()) for buffers, name, b in places if b is not None]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffers, name, buffer, values in before:
                buffers[name] = buffer.copy_(values)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Every module is in eval mode, and then in the mode of before."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def rounds_of(weights: Sequence[PrunedWeight]) -> Iterator[None]:
    """Fill masks several times: what may revive keeps its values meanwhile; if it fails, all is as before."""
    before = [_facts(weight) for weight in weights]
    for weight in weights:
        weight.parks = traits_of(weight.spec.filler).revives
    try:
        yield
    except BaseException:
        for weight, (facts, values, sums) in zip(weights, before, strict=True):
            vars(weight).update(facts)
            weight.parameter.data.copy_(values)
            weight.collector.gradients.take(*sums)
        raise
    finally:
        for weight in weights:
            weight.parks = weight.spec.parks
            if not weight.parks:
                weight.hidden = None


def _facts(weight: PrunedWeight) -> tuple[dict[str, Any], Tensor, tuple[Tensor | None, Tensor | None]]:
    hidden = None if weight.hidden is None else weight.hidden.clone()
    facts = {"mask": weight.mask, "update": weight.update, "target_sparsity": weight.target_sparsity, "hidden": hidden}
    return facts, weight.parameter.detach().clone(), weight.collector.gradients.sums()
