"""Which units are alike: a model with random weights returns the same when they change places, however it is run.

It is run with an example, wherever its code can go, and with other inputs and batch sizes as they come; in
evaluation and in training.
"""

import random
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from prunecell.graph.unchanged import unchanged
from prunecell.structured.inputs import Inputs, nudged, others_of
from prunecell.structured.places import Coupled, distance, draw_, mixed_
from prunecell.structured.running import seed_, set_mode_, tensors_in
from prunecell.structured.ways import MOST, Going, Way, are_finite, ways_of

_N_ORDERS = 2  # of units, at random; one alone may be what a shuffle does
_N_DRAWS = 8  # of Python's random numbers, where the model's code draws some
_NOISE = 16  # how much more than rounding of the inputs that of the units may do


class _Run(NamedTuple):
    """How a model is run: with what, in training or not, which way it goes, and a seed of Python's random numbers."""

    inputs: Inputs
    training: bool
    way: Way | None = None  # None: as it comes
    draw: int = 0
    is_first: bool = True

    @property
    def where(self) -> str:
        """How a message calls it."""
        by_values = "" if self.is_first else ", where its code decides by values"
        return (", in training" if self.training else by_values) + self.inputs.called


_Given = tuple[_Run, list[Tensor]]
"""A run, and what the model returned."""


@torch.no_grad()
def unlike_groups(model: nn.Module, inputs: tuple[Any, ...], groups: Sequence[Coupled]) -> Mapping[str, str]:
    """The groups whose units are not alike: root -> where the model becomes another one, in words; "" as it comes.

    Args:
        model: a copy that may be changed: it gets random weights.
        inputs: of an example.
        groups: of the model.
    """
    draw_(model)
    return _Trial(model, Inputs(inputs)).unlike(groups)


@dataclass(frozen=True, eq=False)
class _Trial:
    model: nn.Module
    example: Inputs

    def unlike(self, groups: Sequence[Coupled]) -> Mapping[str, str]:
        """See `unlike_groups`."""
        generator = torch.Generator().manual_seed(0)
        orders = [{group.root: group.mixed(generator) for group in groups} for _ in range(_N_ORDERS)]
        runs = [run for inputs in (self.example, *others_of(self.example.values)) for run in self._runs(inputs)]
        runs.sort(key=lambda given: given[0].training)

        def differing(groups: Sequence[Coupled]) -> _Run | None:
            """The first run that gives something else. An example is tried in all orders, other inputs in one."""
            found = len(runs)
            for n, order in enumerate(orders):
                with mixed_([(group.places, order[group.root]) for group in groups]):
                    tried = [i for i in range(found) if runs[i][0].inputs is self.example or i % _N_ORDERS == n]
                    found = next((i for i in tried if not self._gives(runs[i][1], runs[i][0])), found)
            return runs[found][0] if found < len(runs) else None

        if differing(groups) is None:
            return {}
        return {group.root: run.where for group in groups if (run := differing([group])) is not None}

    def _gives(self, before: list[Tensor], run: _Run) -> bool:
        """Whether the model returns the same as before, but for rounding."""
        try:
            after = self._returned(run)
        except Exception:  # noqa: BLE001 - the model's own code, which ran before
            return False
        apart = distance(before, after)
        if apart <= 1 or not run.inputs.called:
            return apart <= 1
        near = self._returned(run._replace(inputs=Inputs(nudged(run.inputs.values))))  # numbers too large tell nothing
        return apart <= _NOISE * distance(after, near)

    def _runs(self, inputs: Inputs) -> list[_Given]:
        """All runs with inputs in which what the model returns can be compared; in evaluation first."""
        evaluation, training = (self._ways(_Run(inputs, training)) for training in (False, True))
        if [(run.way, run.draw) for run, _ in evaluation] == [(run.way, run.draw) for run, _ in training] and all(
            len(a) == len(b) and all(map(torch.equal, a, b))
            for (_, a), (_, b) in zip(evaluation, training, strict=True)
        ):
            return evaluation
        sure = [(r, given) for r, given in training if all(map(torch.equal, given, self._returned(r, of_torch=1)))]
        return evaluation + sure  # what draws at random in training is not the same by itself

    def _ways(self, first: _Run) -> list[_Given]:
        """All runs in one mode; an example goes all ways, other inputs go as they come."""
        is_example = not first.inputs.called
        seed_()
        fresh = random.getstate()
        found = self._found(first, MOST if is_example else 1)
        if is_example and random.getstate() != fresh:  # the model's code draws random numbers of Python
            found += [given for draw in range(1, _N_DRAWS) for given in self._found(first._replace(draw=draw), 1)]
        return found

    def _found(self, first: _Run, most: int) -> list[_Given]:
        found: list[_Given] = []
        try:
            for way, given in ways_of(partial(self._returned, first), most):
                is_first = not found
                if are_finite(given) or (is_first and not first.inputs.called):
                    found.append((first._replace(way=way, is_first=is_first), given))
        except Exception:  # noqa: BLE001 - the model's own code, which may want more in training: see `removal`
            return []
        return found

    def _returned(self, run: _Run, *, of_torch: int = 0) -> list[Tensor]:
        """What the model returns; it stays as it is."""
        with unchanged(self.model), nullcontext() if run.way is None else Going(run.way):
            seed_(of_torch, run.draw)
            set_mode_(self.model, training=run.training)
            return [tensor.clone() for tensor in tensors_in(self.model(*run.inputs.values))]
