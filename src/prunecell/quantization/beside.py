"""Whether a Quantizer may have a parameter: who else has it, and which Pruner is beside it.

A Pruner comes first: its hooks then see the true gradients, before the Quantizer puts others into their place.
"""

from collections.abc import Mapping

from torch import Tensor

from prunecell.enforcement.holds import check_free
from prunecell.errors import OptionError, StateError
from prunecell.fillers import traits_of
from prunecell.pruning.hooks import pruned_by
from prunecell.pruning.weight import PrunedWeight


class Beside:
    """The Pruners beside one Quantizer.

    Args:
        parameters: name -> parameter.

    Raises:
        OptionError: another Quantizer, or a Sharing, has one of the parameters; or a Pruner whose pruned weights may
            come back (they revive, or grow).
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self._parameters = parameters
        self._pruned: dict[str, PrunedWeight] = {}
        for name, parameter in parameters.items():
            check_free(name, parameter)
            if (pruned := pruned_by(parameter)) is not None:
                if _comes_back(pruned):
                    raise OptionError(
                        f"parameter {name!r} is held by a Pruner whose pruned weights may come back, and zeros stay"
                        " zeros here at last: finalize() it first, or prune by a filler that lets none back"
                    )
                self._pruned[name] = pruned

    def check(self) -> None:
        """Refuse Pruners that came later and would not be right.

        Raises:
            StateError: one of a parameter sees gradients that are none of the loss, or lets weights come back.
        """
        for name, parameter in self._parameters.items():
            pruned = pruned_by(parameter)
            if pruned is None or pruned is self._pruned.get(name):
                continue
            if _comes_back(pruned) or pruned.spec.needs:
                raise StateError(
                    f"the Pruner of {name!r} was made after the Quantizer, and would see gradients in units of steps:"
                    " make it before"
                )


def _comes_back(pruned: PrunedWeight) -> bool:
    return pruned.parks or traits_of(pruned.spec.filler).grows
