"""Checkpoint: the file from which a run that was stopped goes on."""

import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from prunecell.checks import check_number, check_path
from prunecell.choices import by_name
from prunecell.disk.atomic import replacing
from prunecell.disk.endings import TORCH, check_ending
from prunecell.errors import FormatError, StateError, typed
from prunecell.training.rehearsal import check_groups, rehearsable, rehearse

_RANDOM = "random"
_TOLD = 300  # characters of another library's message


@by_name("path", "every_seconds", example="Checkpoint(path=Path('run.checkpoint'))")
@dataclass(kw_only=True)
class Checkpoint:
    """A file from which a run goes on; written whole or not at all.

    Args:
        path: where.
        every_seconds: > 0, the longest time between two writings; one is made at each epoch's end in any case.

    Raises:
        OptionError: the path has the ending of another kind of file, or the time is not above 0.
        OptionTypeError: it is no path, or no number.
    """

    path: Path
    every_seconds: float = 60.0
    _written: float = field(default_factory=time.monotonic, init=False)

    def __post_init__(self) -> None:
        self.path = check_path("path", self.path)  # a text is as good
        check_ending(self.path, TORCH)
        check_number("every_seconds", self.every_seconds, low=0, open_low=True)

    @property
    def due(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() - self._written > self.every_seconds

    def save(self, parts: dict[str, Any]) -> None:
        """Write the state of all parts and of torch's random generator.

        Raises:
            OSError: the file cannot be written, or the disk is full; the old one stays.
        """
        states = {name: part.state_dict() for name, part in parts.items()} | {_RANDOM: torch.get_rng_state()}
        with replacing(self.path) as file:
            torch.save(states, file)
        self._written = time.monotonic()

    def load(self, parts: dict[str, Any]) -> bool:
        """Give every part its state back; False where no file is.

        Raises:
            FormatError: the file is not one of ours, or of another task. Every part is as it was.
        """
        if not self.path.exists():
            return False
        states = self._read(parts)
        before = {name: deepcopy(part.state_dict()) for name, part in parts.items()} | {_RANDOM: torch.get_rng_state()}
        for name in (*parts, _RANDOM):
            try:
                if name == _RANDOM:
                    torch.set_rng_state(states[name])
                else:
                    _take(parts[name], states[name], before[name])
            except BaseException as error:
                _put_back(parts, before)
                if not isinstance(error, Exception):  # Ctrl-C
                    raise
                told = f"{type(error).__name__}: {error}" if isinstance(error, LookupError) else str(error)
                raise FormatError(f"{self.path} is of another run: {name} does not fit: {told[:_TOLD]}") from None
        return True

    def _read(self, parts: Mapping[str, Any]) -> dict[str, Any]:
        try:
            states = torch.load(self.path, map_location="cpu", weights_only=True)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - torch raises what its parsers raise
            told = str(error).split("\n", 1)[0][:_TOLD]
            raise FormatError(
                f"{self.path} is no checkpoint of prunecell, or damaged ({type(error).__name__}: {told}): remove it,"
                " and begin anew"
            ) from None
        wanted = {*parts, _RANDOM}
        if not isinstance(states, dict) or states.keys() != wanted:
            held = sorted(map(str, states)) if isinstance(states, dict) else typed(states)
            raise FormatError(f"{self.path} is of another run: it holds {held}, not {sorted(wanted)}")
        return states


def _take(part: Any, state: Any, before: Any) -> None:  # noqa: ANN401 - whatever has a state_dict
    """Give one part its state. It raises what the part raises; then the part may have taken half of it."""
    if isinstance(part, nn.Module):
        _check_dtypes(state, before)
    if not isinstance(part, Optimizer):
        part.load_state_dict(state)
        return
    check_groups(state, before)
    can_tell = rehearsable(part)
    part.load_state_dict(state)
    if can_tell:
        rehearse(part)


def _check_dtypes(state: object, before: Mapping[str, Any]) -> None:
    """Refuse tensors of other dtypes than a module's own, to which torch would cast them without a word."""
    if not isinstance(state, Mapping):
        raise StateError(f"it is {typed(state)}, not a mapping")
    for name, tensor in state.items():
        own = before.get(name)
        if isinstance(own, Tensor) and getattr(tensor, "dtype", None) != own.dtype:
            raise StateError(f"{name} is {getattr(tensor, 'dtype', type(tensor).__name__)}, not {own.dtype}")


def _put_back(parts: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    for name, part in reversed([*parts.items()]):  # a pruner zeroes what it prunes, so the model comes after it
        part.load_state_dict(before[name])
    torch.set_rng_state(before[_RANDOM])
