"""Averages of weights, and the masks that they have in the end."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from prunecell.bits.mask import Mask
from prunecell.checks import check_mapping
from prunecell.errors import OptionError, OptionTypeError, nearest, quoted, typed
from prunecell.names import plain_names


@torch.no_grad()
def zero_pruned_(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Write +0.0 into a model where masks prune: into an average of a model whose masks changed meanwhile.

    Averages of weights (`torch.optim.swa_utils.AveragedModel`, EMA or SWA) hold what was left of a weight when it was
    pruned. Under the masks of the end they are as sparse as the model; the kept weights stay as they are. BatchNorm's
    statistics come after it: `torch.optim.swa_utils.update_bn`.

    Args:
        model: of the same kind as the pruned one; it may be wrapped (`AveragedModel` is a wrapper).
        masks: name of a parameter in the plain model -> bool tensor of its shape, True keeps: `Pruner.masks`.

    Raises:
        OptionError: a name is none of the model's, or a mask has another shape.
        OptionTypeError: the model is no module, masks is no mapping, or a mask no bool tensor. Nothing was changed.

    >>> from torch.optim.swa_utils import AveragedModel
    >>> averaged = AveragedModel(nn.Linear(2, 1))
    >>> zero_pruned_(averaged, {"weight": torch.tensor([[True, False]])})
    >>> averaged.module.weight[0, 1].item()
    0.0
    """
    if not isinstance(model, nn.Module):
        raise OptionTypeError(f"model is {typed(model)}: it must be a module")
    check_mapping("masks", masks, "a mapping from names of weights to bool tensors")
    plain = plain_names(model)
    parameters = {plain[name]: p for name, p in model.named_parameters(remove_duplicate=False)}
    for name, keep in masks.items():
        if name not in parameters:
            raise OptionError(
                f"name={quoted(name)} is illegal: the model has no such parameter{nearest(name, parameters)}"
            )
        if not isinstance(keep, Tensor) or keep.dtype != torch.bool:
            kind = keep.dtype if isinstance(keep, Tensor) else type(keep).__name__
            raise OptionTypeError(f"the mask of {name} is illegal: it must be a bool tensor, not {kind}")
        if keep.shape != parameters[name].shape:
            shape = tuple(parameters[name].shape)
            raise OptionError(f"the mask of {name} is illegal: its shape is {tuple(keep.shape)}, not {shape}")
    for name, keep in masks.items():
        Mask.from_bool(keep.to(parameters[name].device)).zero_pruned_(parameters[name].data)
