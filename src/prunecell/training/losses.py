"""Losses for training what is pruned."""

from torch import Tensor
from torch.nn import functional as F

from prunecell.checks import check_number
from prunecell.errors import OptionError, OptionTypeError, typed


def distillation(
    scores: Tensor, teacher_scores: Tensor, labels: Tensor, *, temperature: float = 4.0, alpha: float = 0.9
) -> Tensor:
    """Learn from the scores of a better model, the dense one, and from the labels (Hinton 2015).

    alpha T^2 KL(softmax(teacher / T) || softmax(scores / T)) + (1 - alpha) cross-entropy(scores, labels), each a mean
    over samples and positions. The factor T^2 keeps the two gradients in proportion when T changes. Source: Distilling
    the knowledge in a neural network, https://arxiv.org/abs/1503.02531.

    Args:
        scores: of the model that learns, before any softmax, (n, classes, ...).
        teacher_scores: of the same shape; no gradient goes back to the teacher.
        labels: int64 (n, ...), or probabilities of the shape of the scores.
        temperature: T > 0; a higher one shows more of how the teacher ranks the wrong classes.
        alpha: in [0, 1], the weight of the teacher.

    Raises:
        OptionError: the shapes differ, or a number is out of range.
        OptionTypeError: something is no tensor, or no number.

    >>> import torch
    >>> scores = torch.tensor([[2.0, 0.0, -1.0]])
    >>> float(distillation(scores, scores, torch.tensor([0]), alpha=1.0))
    0.0
    """
    check_number("temperature", temperature, low=0, open_low=True)
    check_number("alpha", alpha, low=0, high=1)
    for name, value in (("scores", scores), ("teacher_scores", teacher_scores), ("labels", labels)):
        if not isinstance(value, Tensor):
            raise OptionTypeError(f"{name} is {typed(value)}: it must be a tensor")
    if scores.shape != teacher_scores.shape or scores.ndim < 2:  # noqa: PLR2004 - samples and classes
        raise OptionError(
            f"teacher_scores of shape {tuple(teacher_scores.shape)} are illegal for scores of shape"
            f" {tuple(scores.shape)}: both must be (n, classes, ...)"
        )
    ours, theirs = (F.log_softmax(one / temperature, 1) for one in (scores, teacher_scores.detach()))
    n = scores.numel() // scores.shape[1]
    soft = F.kl_div(ours, theirs, log_target=True, reduction="sum") / n
    return alpha * temperature**2 * soft + (1 - alpha) * F.cross_entropy(scores, labels)
