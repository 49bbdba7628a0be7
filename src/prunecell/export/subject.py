"""What is exported: a model in evaluation mode, an example of its inputs, its tensors."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Tensor, nn

from prunecell.archive.saving import plain_state
from prunecell.errors import OptionError, OptionTypeError, typed
from prunecell.sparse.layers import SparseMatrix

Example: TypeAlias = Tensor | tuple[Tensor, ...]
"""What a model is called with: one tensor, or all its positional arguments. The first dimension counts samples."""


def arguments(example: Example) -> tuple[Tensor, ...]:
    """The positional arguments, of two samples at least.

    A single sample is doubled, because tracers assume that a dimension of 1 is always 1.

    Raises:
        OptionTypeError: the example is neither a tensor nor a tuple of tensors.
        OptionError: its first tensor has no dimension, or no samples.

    >>> [tuple(x.shape) for x in arguments(torch.zeros(1, 3))]
    [(2, 3)]
    """
    inputs = (example,) if isinstance(example, Tensor) else example
    if not isinstance(inputs, tuple) or not inputs or not all(isinstance(x, Tensor) for x in inputs):
        raise OptionTypeError(f"example is illegal: it must be a tensor or a tuple of tensors, not {type(example)}")
    if inputs[0].shape[:1].numel() == 0 or inputs[0].ndim == 0:
        raise OptionError(f"example is illegal: its shape {tuple(inputs[0].shape)} must begin with a number of samples")
    if all(x.shape[:1] in ((), (1,)) for x in inputs):
        return tuple(torch.cat([x, x]) if x.ndim else x for x in inputs)
    return inputs


def counts_samples(tensor: Tensor, inputs: tuple[Tensor, ...]) -> bool:
    """Whether the first dimension of an input or output is the number of samples, which the first input has."""
    return tensor.shape[:1] == inputs[0].shape[:1]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Hold a model in evaluation mode, without gradients and without the warnings that tracers give about torch.

    torch's fused transformer layers are switched off, because no other program knows them.
    """
    modes = {module: module.training for module in model.modules()}
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    model.eval()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for module, mode in modes.items():
            module.training = mode


def refuse_compact(model: nn.Module) -> None:
    """Refuse a model with sparse layers, whose weights are compressed in a way that only torch programs can hold.

    Raises:
        OptionError: `compact_` made a layer of it.
    """
    for name, module in model.named_modules():
        if isinstance(module, SparseMatrix):
            raise OptionError(
                f"the layer {name!r} is {typed(module)}, which compact_ made: export the model before "
                "compact_, or to a torch.export program (.pt2)"
            )


def state_of(model_or_state_dict: nn.Module | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors by name; those of a model are named as in the plain model, as `save` names them.

    Raises:
        OptionError: `compact_` made a layer of the model.
    """
    if isinstance(model_or_state_dict, nn.Module):
        refuse_compact(model_or_state_dict)
    return plain_state(model_or_state_dict)
