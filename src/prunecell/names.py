"""Names of parameters without the prefixes of wrappers.

torch.compile, DistributedDataParallel and their like put a model into another module, and a parametrization moves a
weight aside, so each renames what it holds. A random choice, a state and an archive call a weight by the name that it
has in the plain model, and come to the same whatever is around it.
"""

import re
from collections import Counter
from collections.abc import Iterator

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

_ALWAYS_WRAPPED = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_HOLD_A_MODULE = (DataParallel, DistributedDataParallel, AveragedModel)
_EXTRA_STATE = "_extra_state"  # as torch calls it in a state_dict
_ORIGINAL = re.compile(r"parametrizations\.([^.]+)\.original(\d*)$")


def plain_names(model: nn.Module) -> dict[str, str]:
    """Every name of a parameter, buffer or extra state in `model` -> the one that it has without wrappers.

    Where two would come to the same name both keep theirs.

    >>> plain_names(nn.utils.parametrizations.orthogonal(nn.Linear(2, 2)))["parametrizations.weight.original"]
    'weight'
    """
    names = dict(_walk(model, "", ""))
    n_uses = Counter(names.values())
    return {name: plain if n_uses[plain] == 1 else name for name, plain in names.items()}


def _walk(module: nn.Module, path: str, plain: str) -> Iterator[tuple[str, str]]:
    for leaf in (*module._parameters.keys(), *module._buffers.keys()):  # noqa: SLF001 - tied ones too
        yield path + leaf, _ORIGINAL.sub(_without_parametrization, plain + leaf)
    if type(module).get_extra_state is not nn.Module.get_extra_state:
        yield path + _EXTRA_STATE, plain + _EXTRA_STATE
    for name, child in module._modules.items():  # noqa: SLF001
        if child is not None:
            yield from _walk(child, f"{path}{name}.", plain if _is_wrapped(module, name) else f"{plain}{name}.")


def _is_wrapped(module: nn.Module, name: str) -> bool:
    return name in _ALWAYS_WRAPPED or (name == "module" and isinstance(module, _HOLD_A_MODULE))


def _without_parametrization(found: re.Match[str]) -> str:
    name, number = found.groups()
    return f"{name}.original{number}" if number else name
