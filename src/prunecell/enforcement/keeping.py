"""What a Pruner and a Quantizer ask alike: samples in an epoch, whether weights are still the model's, who stepped."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from prunecell.errors import OptionError, StateError, check_count


def checked_epoch_size(epoch_size: int | None, counting: Iterable[str]) -> int | None:
    """The samples in one epoch, as they were given.

    Args:
        epoch_size: >= 1, or None.
        counting: what counts epochs, in words.

    Raises:
        OptionError: it is no such number; or it is missing though something counts epochs.
    """
    if epoch_size is not None:
        check_count("epoch_size", epoch_size, low=1)
        return epoch_size
    for what in counting:
        raise OptionError(
            f"epoch_size=None is illegal: {what} counts epochs; give the number of samples in one epoch, a whole number"
            " >= 1"
        )
    return None


def missing_in(model: nn.Module, parameters: Mapping[str, Tensor]) -> Iterator[str]:
    """The names of the parameters that a model does not have. FSDP swaps DTensors back and forth: these count as there.

    >>> net = nn.Linear(2, 2)
    >>> list(missing_in(net, {"weight": net.weight, "old": nn.Parameter(net.weight.detach())}))
    ['old']
    """
    present = {id(parameter) for parameter in model.parameters()}
    for name, parameter in parameters.items():
        if id(parameter) not in present and type(parameter) is nn.Parameter:
            yield name


def check_still_there(model: nn.Module, parameters: Mapping[str, Tensor], keeper: str) -> None:
    """Notice that parameters were replaced.

    Raises:
        StateError: one is no longer the model's; the message tells the keeper, a Pruner, say.
    """
    for name in missing_in(model, parameters):
        raise StateError(
            f"parameter {name!r} of the {keeper} is no longer one of the model's: it was removed, or replaced (by"
            f" load_state_dict(assign=True), by tying, by a new layer?); make a new {keeper} of the model"
        )


@dataclass(eq=False)
class Steps:
    """How many steps each attached optimizer has made, and how often the keeper was told of one, by its `step`.

    They are of this process: a state that is loaded says nothing of them.

    >>> steps, optimizer = Steps(), object()
    >>> for _ in range(3):
    ...     steps.count(optimizer)
    >>> steps.n_told += 1
    >>> steps.untold("pruner")
    'pruner.step(n_samples) was called once in 3 steps of the optimizer: call it after each'
    """

    n_told: int = 0
    _n_made: dict[int, int] = field(default_factory=dict)

    def count(self, optimizer: object) -> None:
        """One more was made."""
        self._n_made[id(optimizer)] = self._n_made.get(id(optimizer), 0) + 1

    def untold(self, keeper: str) -> str:
        """What to say where it was told less often than steps were made, or never; empty otherwise.

        Args:
            keeper: what the user calls it.
        """
        n_made = max(self._n_made.values(), default=0)
        if self.n_told and self.n_told >= n_made:
            return ""
        often = {0: "never called", 1: "called once"}.get(self.n_told, f"called {self.n_told:,} times")
        made = f" in {n_made:,} step{'s' * (n_made != 1)} of the optimizer" if n_made else ""
        return f"{keeper}.step(n_samples) was {often}{made}: call it after each"
