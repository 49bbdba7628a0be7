"""evaluate(): the fraction of the right answers of a classifier; what is none is refused, not measured wrongly."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from prunecell.checks import check_pair
from prunecell.errors import OptionError, OptionTypeError, typed
from prunecell.torch_checks import are_batches, check_model

Batches = Iterable[tuple[Tensor, Tensor]]
"""(inputs, labels), with a label for each input, or more of them."""

Metric = Callable[[nn.Module, Batches], float]
"""(model, batches) -> a number, higher is better: accuracy as a fraction, say."""

IGNORED = -100
"""The label that counts for nothing, as in torch's cross-entropy."""

_LEGAL = (
    "accuracy is of integer labels (n,) with scores (n, classes), or (n, ...) with (n, classes, ...); for anything else"
    " give a metric= of yours (model, batches) -> a number, or, to tune, max_rise= of the loss"
)
_FEWEST = 2  # classes; of one the highest score is always the same


@torch.no_grad()
def evaluate(model: nn.Module, batches: Batches) -> float:
    """The fraction of the labels that have the highest score; the model is left in evaluation mode.

    Labels are integers, as for cross-entropy: one for each sample, (n,), with scores (n, classes) or
    (n, classes, 1, 1); or one for each position, (n, ...), with scores (n, classes, ...). The label -100 counts for
    nothing. Of a model that returns a list of outputs, the first is taken.

    Raises:
        OptionTypeError: the model is no module, the batches are no pairs, or scores or labels no such tensors.
        OptionError: their shapes do not fit, there is one class only, or a label is of no class.

    >>> evaluate(nn.Identity(), [(torch.eye(4), torch.tensor([0, 1, 2, 0]))])
    0.75
    """
    check_evaluation(model, batches)
    model.eval()
    right = n = 0
    for inputs, labels in map(check_pair, batches):
        made = model(inputs)
        scores = made[0] if isinstance(made, list | tuple) and made else made
        _check_types(scores, labels)
        fitting = _fitting(scores, labels)
        counted = labels != IGNORED
        _check_labels(labels[counted], fitting.shape[1])
        right += int(((fitting.argmax(1) == labels) & counted).sum())
        n += int(counted.sum())
    return right / max(n, 1)


def check_evaluation(model: object, batches: object) -> None:
    """Refuse what is no model, and what are no batches.

    Raises:
        OptionTypeError: see above; the message says where the two stand in each other's place.
    """
    swapped = "; the model comes first, and then the batches" if isinstance(batches, nn.Module) else ""
    check_model(model, swapped)
    if not are_batches(batches):
        raise OptionTypeError(f"batches is {typed(batches)}: it must be pairs (inputs, labels), as a DataLoader gives")


def _check_types(scores: object, labels: object) -> None:
    if not isinstance(scores, Tensor):
        raise OptionTypeError(f"the model gives {typed(scores)}, not a tensor of scores: {_LEGAL}")
    if scores.is_complex() or scores.dtype == torch.bool:
        raise OptionTypeError(f"the model gives scores of {scores.dtype}: {_LEGAL}")
    if not isinstance(labels, Tensor):
        raise OptionTypeError(f"the labels are {typed(labels)}, not a tensor: {_LEGAL}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise OptionTypeError(f"the labels are of {labels.dtype}: {_LEGAL}")


def _fitting(scores: Tensor, labels: Tensor) -> Tensor:
    """The scores as (n, classes, ...) beside labels (n, ...)."""
    if labels.dim() == 1 and scores.shape[2:].numel() == 1 < scores.dim():
        scores = scores.flatten(1)  # (n, classes, 1, 1), as N2D2's cells give them
    if scores.dim() < 2 or (len(scores), *scores.shape[2:]) != tuple(labels.shape):  # noqa: PLR2004 - samples, classes
        raise OptionError(
            f"scores of shape {tuple(scores.shape)} do not fit labels of shape {tuple(labels.shape)}: {_LEGAL}"
        )
    if scores.shape[1] < _FEWEST:
        raise OptionError(
            f"scores of shape {tuple(scores.shape)} are of {scores.shape[1]} class, which is always the highest:"
            f" {_LEGAL}"
        )
    return scores


def _check_labels(labels: Tensor, n_classes: int) -> None:
    """Refuse labels, those that count, that are of no class."""
    wrong = labels[(labels < 0) | (labels >= n_classes)]
    if len(wrong):
        raise OptionError(
            f"the label {int(wrong[0])} is of none of {n_classes} classes: it must be in [0, {n_classes - 1}], or"
            f" {IGNORED}, which counts for nothing"
        )
