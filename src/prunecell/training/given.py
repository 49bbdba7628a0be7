"""What is given to fit(): refused, with what it must be, before anything is changed."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from torch import Tensor, nn

from prunecell.checks import check_mapping, check_pair
from prunecell.choices import check_callable
from prunecell.errors import OptionError, OptionTypeError, quoted, some, typed
from prunecell.plan.resolve import sparse_weights
from prunecell.torch_checks import are_batches, check_model
from prunecell.training.checkpoint import Checkpoint

_METHODS = {
    "optimizer": (("zero_grad", "step", "state_dict"), "an optimizer of the model's parameters"),
    "keeper": (("step", "report", "state_dict"), "a Pruner or a Quantizer of the model, or None"),
    "scheduler": (("step", "state_dict"), "a scheduler of learning rates, or None"),
}
"""Part of a task -> methods that it must have, and what it must be; a property could take long to ask for."""


def check_task(parts: Mapping[str, Any]) -> None:
    """Refuse parts of a task that cannot be such.

    Raises:
        OptionTypeError: one is of another kind.
    """
    check_model(parts["model"])
    for name, (methods, legal) in _METHODS.items():
        part = parts[name]
        if (part is None and name != "optimizer") or all(hasattr(part, method) for method in methods):
            continue
        raise OptionTypeError(f"{name} is {typed(part)}: it must be {legal}")
    _check_function("train", parts["train"], 1, "lambda epoch: batches")
    if parts["validation"] is not None:
        _check_function("validation", parts["validation"], 0, "lambda: batches")
    check_callable("loss", parts["loss"], {"cross_entropy": "torch.nn.functional.cross_entropy"})
    check_callable("metric", parts["metric"], {"evaluate": "prunecell.evaluate"})
    check_mapping("beside", parts["beside"], "a mapping from names to what has a state_dict")


def _check_function(name: str, function: object, n_arguments: int, example: str) -> None:
    of = "the number of an epoch" if n_arguments else "nothing"
    if not callable(function):
        raise OptionTypeError(
            f"{name} is {typed(function)}: it must be a function of {of} that gives batches, as {name}={example}"
        )
    if not takes(function, n_arguments):
        raise OptionTypeError(f"{name} is illegal: it must be a function of {of}, as {name}={example}")


def takes(function: Callable[..., Any], n_arguments: int) -> bool:
    """Whether a function can be called with so many values; of some that are written in C nothing is known.

    >>> takes(lambda model: 1.0, 2), takes(lambda model, batches: 1.0, 2)
    (False, True)
    """
    with suppress(ValueError):
        signature = inspect.signature(function)
        try:
            signature.bind(*range(n_arguments))
        except TypeError:
            return False
    return True


def check_fit(task: object, kind: type, checkpoint: object, watch: object) -> None:
    """Refuse other arguments of `fit`.

    Raises:
        OptionTypeError: the task is no Task, the checkpoint no Checkpoint, or `watch` no function.
    """
    if not isinstance(task, kind):
        raise OptionTypeError(
            f"task is {typed(task)}: it must be a Task, as fit(Task(model=model, optimizer=optimizer, train=train), 10)"
        )
    if not isinstance(checkpoint, Checkpoint | None):
        raise OptionTypeError(f"checkpoint is {typed(checkpoint)}: it must be a Checkpoint(path=...), or None")
    if watch is not None:
        check_callable("watch", watch, {"print": "lambda progress: print(progress)"})


def batches_of(train: Callable[[int], Iterable[Any]], epoch: int) -> Iterator[tuple[Any, Any]]:
    """The batches of an epoch, of which there is one at least.

    Raises:
        OptionTypeError: they are no pairs, or labels are not countable.
        OptionError: there is none.
    """
    batches = train(epoch)
    if not are_batches(batches):
        raise OptionTypeError(f"train gave {typed(batches)} for epoch {epoch}: it must give pairs (inputs, labels)")
    n = 0
    for batch in batches:
        inputs, labels = check_pair(batch)
        if not hasattr(labels, "__len__") or (isinstance(labels, Tensor) and not labels.ndim):
            raise OptionTypeError(f"the labels of a batch are {quoted(labels)}: there must be one for each sample")
        yield inputs, labels
        n += 1
    if not n:
        raise OptionError(
            f"train gave no batch for epoch {epoch}: an iterator can be read once only, so make a new one"
        )


def check_loss(loss: object, model: nn.Module) -> Tensor:
    """Return the loss, if it is a number that can be learned from.

    Raises:
        OptionTypeError: it is no tensor with one number.
        OptionError: it depends on no parameter that requires a gradient.
    """
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        shape = f" of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else ""
        raise OptionTypeError(f"the loss returned {typed(loss)}{shape}: it must be a tensor with one number")
    if not loss.requires_grad:
        sparse = sparse_weights(model)
        why = (
            f"{some(sparse)} cannot be trained any more, because compact_ made them sparse: train the model before"
            if sparse
            else "are all parameters frozen, or was it computed without gradients?"
        )
        raise OptionError(f"the loss depends on no parameter that requires a gradient: {why}")
    return loss
