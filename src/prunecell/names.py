"""Names of tensors: of parameters without the prefixes of wrappers, and which ones a file may hold.

torch.compile, DistributedDataParallel and their like put a model into another module, and a parametrization moves a
weight aside, so each renames what it holds. A random choice, a state and an archive call a weight by the name that it
has in the plain model, and come to the same whatever is around it.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from prunecell.errors import OptionError

METADATA = "__metadata__"
"""What a safetensors header has beside the names of its tensors."""

_UNSEEN = {
    "Cc": "a control character",
    "Cf": "a character that changes how others are shown",
    "Cs": "half of a character, a surrogate",
    "Co": "a character of private use, without a meaning",
    "Zl": "a line separator",
    "Zp": "a paragraph separator",
    "Zs": "a space that is no plain one",
}
"""Unicode's categories that no name may hold: a name is shown in messages and tables, on terminals."""

_ALWAYS_WRAPPED = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_HOLD_A_MODULE = (DataParallel, DistributedDataParallel, AveragedModel)
_EXTRA_STATE = "_extra_state"  # as torch calls it in a state_dict
_ORIGINAL = re.compile(r"parametrizations\.([^.]+)\.original(\d*)$")


def why_illegal(name: str) -> str | None:
    """What is wrong with a name, which a file is to hold or holds; None where nothing is.

    >>> why_illegal("features.0.weight"), why_illegal(f"a{chr(27)}[31mb")
    (None, 'it holds a control character (U+001B)')
    """
    if name == METADATA:
        return f"{METADATA} is no name of a tensor"
    for letter in () if name.isprintable() else name:
        category = unicodedata.category(letter)
        if letter != " " and category in _UNSEEN:
            return f"it holds {_UNSEEN[category]} (U+{ord(letter):04X})"
    return None


def plain_names(model: nn.Module) -> dict[str, str]:
    """Every name of a parameter, buffer or extra state in `model` -> the one that it has without wrappers.

    Where two would come to the same name both keep theirs.

    >>> plain_names(nn.utils.parametrizations.orthogonal(nn.Linear(2, 2)))["parametrizations.weight.original"]
    'weight'
    """
    names = dict(_walk(model, "", ""))
    n_uses = Counter(names.values())
    return {name: plain if n_uses[plain] == 1 else name for name, plain in names.items()}


def unwrapped(model: nn.Module) -> nn.Module:
    """The model without the wrappers around it, which has the plain names."""
    for name, child in model._modules.items():  # noqa: SLF001 - torch has no public name
        if child is not None and _is_wrapped(model, name):
            return unwrapped(child)
    return model


def check_undistributed(model: nn.Module, verb: str) -> None:
    """Refuse other parameters for a model that is wrapped for several processes, whose reducer holds the old ones.

    Raises:
        OptionError: it, or a part of it, is a DistributedDataParallel.
    """
    if any(isinstance(part, DistributedDataParallel) for part in model.modules()):
        raise OptionError(
            f"the model cannot be {verb} through DistributedDataParallel, which waits for gradients of the parameters"
            " that it was made with: change the model inside, alike in every process, and wrap it again afterwards"
        )


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
