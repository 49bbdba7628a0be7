"""Whether a model seems to know anything; a search that begins with a model that does not finds nothing of use."""

import math
from collections import Counter

import torch
from torch import Tensor, nn

from prunecell.training.accuracy import IGNORED, Batches, evaluate
from prunecell.tuning.quality import Judge

_HARDLY = 0.1
"""A model is doubted if it makes up less than this part of what a constant answer lacks."""

_DEVIATIONS = 2  # by which chance alone may raise an accuracy

_ADVICE = "is the model trained, and are its weights loaded? A search takes what it is given for the best there is"


def doubt(judge: Judge, model: nn.Module, dense: float) -> str | None:
    """Say why a model looks untrained: what was measured, and what a constant answer reaches; None: it does not.

    Accuracy is compared with that of the commonest label, everything else by the loss: with that of a model which
    gives all samples the same output, the mean of those that it gave.

    Args:
        judge: measures models.
        model: the dense one.
        dense: its quality.

    >>> from prunecell.tuning.quality import Allowance
    >>> data, loss = [(torch.eye(4), torch.arange(4))] * 20, nn.functional.cross_entropy
    >>> judge = Judge(validation=lambda: data, allowance=Allowance(max_drop=1), metric=evaluate, loss=loss)
    >>> doubt(judge, nn.Identity(), 1.0), doubt(judge, nn.Flatten(), 0.26)[:72]
    (None, "the dense model's accuracy is 26.00%, and always answering the commonest")
    """
    if judge.allowance.max_drop is not None and judge.metric is evaluate:
        return _of_accuracy(judge.validation(), dense)
    return _of_loss(judge, model)


def _of_accuracy(batches: Batches, accuracy: float) -> str | None:
    counts: Counter[int] = Counter()
    for _, labels in batches:
        counts.update(labels.flatten().tolist())
    del counts[IGNORED]
    n = counts.total()
    if not n:
        return None
    label, most = counts.most_common(1)[0]
    chance = most / n
    luck = _DEVIATIONS * math.sqrt(chance * (1 - chance) / n)
    if accuracy > chance + max(min(chance, _HARDLY * (1 - chance)), luck):
        return None
    return (
        f"the dense model's accuracy is {accuracy:.2%}, and always answering the commonest of {len(counts)} labels"
        f" ({label}) would give {chance:.2%} on the same {n:,}: {_ADVICE}"
    )


@torch.no_grad()
def _of_loss(judge: Judge, model: nn.Module) -> str | None:
    """By a loss that is above zero, of a model that gives tensors of one shape."""
    model.eval()
    mean, total, n = None, 0.0, 0
    for inputs, labels in judge.validation():
        outputs = model(inputs)
        if not isinstance(outputs, Tensor) or not outputs.is_floating_point() or len(outputs) != len(labels):
            return None
        if mean is not None and mean.shape != outputs.shape[1:]:
            return None
        mean = outputs.double().sum(0) + (0 if mean is None else mean)
        total += float(judge.loss(outputs, labels)) * len(labels)
        n += len(labels)
        dtype = outputs.dtype
    if mean is None or n < 2:  # noqa: PLR2004 - the mean of one output is that output
        return None
    same = (mean / n).to(dtype)
    constant = sum(
        float(judge.loss(same.expand(len(labels), *same.shape), labels)) * len(labels)
        for _, labels in judge.validation()
    )
    if not 0 < constant < math.inf or total < (1 - _HARDLY) * constant:
        return None
    return (
        f"the dense model's loss is {total / n:.4g}, and would be {constant / n:.4g} if it gave all {n:,} samples the"
        f" same output, the mean of its own: {_ADVICE}"
    )
