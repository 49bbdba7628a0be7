"""A copy of a model is run: in training and in evaluation, and what it returns is looked at."""

import copy
import random
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from prunecell.errors import OptionError, quoted


def copied(model: nn.Module) -> nn.Module:
    """A copy of a model.

    Raises:
        OptionError: it cannot be copied.
    """
    try:
        return copy.deepcopy(model)
    except Exception as error:
        hint = (
            " (torch.nn.utils.weight_norm and spectral_norm compute a weight that no copy takes; those of"
            " torch.nn.utils.parametrizations can be copied)"
            if any(isinstance(value, Tensor) for part in model.modules() for value in vars(part).values())
            else ""
        )
        raise OptionError(f"the model cannot be copied{hint}: {quoted(str(error), 200)}") from error


def tensors_in(outputs: object) -> Iterator[Tensor]:
    """The tensors in what a model returns, in attributes of objects too."""
    waiting, met = [outputs], dict[int, object]()
    while waiting:
        part = waiting.pop()
        if isinstance(part, Tensor):
            yield part
        elif id(part) not in met:
            met[id(part)] = part  # held, so that no other object gets its id
            waiting += reversed(_parts(part))


def _parts(of: object) -> list[object]:
    """What an object consists of, as far as that can be seen."""
    if isinstance(of, Mapping):
        return [*of.values()]
    if isinstance(of, Sequence | AbstractSet):
        return [] if isinstance(of, str | bytes | range) else [*of]
    if isinstance(of, type | ModuleType | FunctionType):
        return []
    slots = [name for kind in type(of).__mro__ for name in getattr(kind, "__slots__", ())]
    return [*getattr(of, "__dict__", {}).values(), *(getattr(of, name, None) for name in slots)]


def set_mode_(model: nn.Module, *, training: bool) -> None:
    """Put a model in training or evaluation; in training a BatchNorm stays in evaluation, because it wants a batch."""
    for part in model.train(training).modules():
        if isinstance(part, _BatchNorm):
            part.eval()


def seed_(of_torch: int = 0, of_python: int = 0) -> None:
    """Let random numbers begin anew, within `unrandom`."""
    torch.manual_seed(of_torch)
    random.seed(of_python)


def shapes_of(
    model: nn.Module,
    inputs: tuple[Any, ...],
    called: str = "the model",
    *,
    training: bool = False,
) -> list[torch.Size]:
    """The shapes of what a model returns, in a mode as `set_mode_` has it; within `unrandom`.

    Raises:
        OptionError: it cannot be run; the message calls it as told.
    """
    set_mode_(model, training=training)
    seed_()
    try:
        return [tensor.shape for tensor in tensors_in(model(*inputs))]
    except Exception as error:  # the model's own code
        when = " in training" if training else ""
        told = quoted(str(error).partition("\n")[0], 300)
        if called == "the model" and not training:
            told = (
                f"{told}; example is a tensor or the tuple of all inputs, as x[:1] of a batch (x, y): no loader, no"
                " batch with its labels, and no shape"
            )
        raise OptionError(f"{called} cannot be run with example{when}: {told}") from error


@contextmanager
def unrandom(model: nn.Module) -> Iterator[None]:
    """Leave the random numbers as they are: of Python, of the CPU and of the devices that a model is on."""
    devices = {tensor.device.index for tensor in model.parameters() if tensor.device.type == "cuda"}
    state = random.getstate()
    try:
        with torch.random.fork_rng(devices=sorted(devices)):
            yield
    finally:
        random.setstate(state)
