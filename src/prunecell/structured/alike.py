"""Which units are alike: a model with random weights returns the same when they change places, however it is run."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from prunecell.graph.unchanged import unchanged
from prunecell.structured.places import Coupled, are_alike, draw_
from prunecell.structured.running import set_mode_, tensors_in
from prunecell.structured.ways import Going, Way, are_finite, ways_of

_N_ORDERS = 2  # random ones; one alone may be what a shuffle does


class _Run(NamedTuple):
    """How the model is run: in training or not, and which way it goes; None: as it comes."""

    training: bool
    way: Way | None = None


def unlike_groups(model: nn.Module, inputs: tuple[Any, ...], groups: Sequence[Coupled]) -> Mapping[str, str]:
    """The groups whose units are not alike: root -> where the model becomes another one, in words; "" as it comes.

    Args:
        model: a copy that may be changed: it gets random weights.
        inputs: of an example.
        groups: of the model.
    """
    draw_(model)
    return _Trial(model, inputs).unlike(groups)


@dataclass(frozen=True, eq=False)
class _Trial:
    model: nn.Module
    inputs: tuple[Any, ...]

    def unlike(self, groups: Sequence[Coupled]) -> Mapping[str, str]:
        """See `unlike_groups`."""
        generator = torch.Generator().manual_seed(0)
        runs = self._runs()

        def are_good(groups: Sequence[Coupled], runs: list[_Run]) -> bool:
            def run() -> list[Tensor]:
                return [tensor for how in runs for tensor in self._returned(how)]

            return all(are_alike(run, [(g.places, g.mixed(generator)) for g in groups]) for _ in range(_N_ORDERS))

        if are_good(groups, runs):
            return {}
        parts = {"": runs[:1], ", where its code decides by values": [how for how in runs if not how.training]}
        parts[", in training"] = runs
        unlike = {}
        for group in groups:
            found = (where for where, part in parts.items() if not are_good([group], part))
            if (where := next(found, None)) is not None:
                unlike[group.root] = where
        return unlike

    @torch.no_grad()
    def _runs(self) -> list[_Run]:
        """All in which what the model returns can be compared: by an example, and otherwise; in evaluation first."""
        evaluation, training = self._runs_in(training=False), self._runs_in(training=True)
        if [run.way for run, _ in evaluation] == [run.way for run, _ in training] and all(
            len(a) == len(b) and all(map(torch.equal, a, b))
            for (_, a), (_, b) in zip(evaluation, training, strict=True)
        ):
            training = []
        sure = [run for run, given in training if all(map(torch.equal, given, self._returned(run, seed=1)))]
        return [*(run for run, _ in evaluation), *sure]  # what draws at random in training is not the same by itself

    def _runs_in(self, *, training: bool) -> list[tuple[_Run, list[Tensor]]]:
        try:
            found = [*ways_of(lambda: self._returned(_Run(training)))]
        except Exception:  # noqa: BLE001 - the model's own code, which may want more in training: see `removal`
            return []
        return [(_Run(training, way), given) for way, given in found if way == found[0][0] or are_finite(given)]

    def _returned(self, how: _Run, *, seed: int = 0) -> list[Tensor]:
        """What the model returns; it stays as it is."""
        with unchanged(self.model), nullcontext() if how.way is None else Going(how.way):
            torch.manual_seed(seed)
            set_mode_(self.model, training=how.training)
            return [tensor.clone() for tensor in tensors_in(self.model(*self.inputs))]
