"""Checkpoint: the file from which a run that was stopped goes on."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch

from prunecell.atomic import replacing
from prunecell.choices import by_name
from prunecell.errors import FormatError


@by_name("path", "every_seconds", example="Checkpoint(path=Path('run.checkpoint'))")
@dataclass(kw_only=True)
class Checkpoint:
    """A file from which a run goes on; written whole or not at all.

    Args:
        path: where.
        every_seconds: > 0, the longest time between two writings; one is made at each epoch's end in any case.
    """

    path: Path
    every_seconds: float = 60.0
    _written: float = field(default_factory=time.monotonic, init=False)

    @property
    def due(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() - self._written > self.every_seconds

    def save(self, parts: dict[str, Any]) -> None:
        """Write the state of all parts and of torch's random generator."""
        states = {name: part.state_dict() for name, part in parts.items()} | {"random": torch.get_rng_state()}
        with replacing(self.path) as file:
            _save(states, file)
        self._written = time.monotonic()

    def load(self, parts: dict[str, Any]) -> bool:
        """Give every part its state back; False where no file is.

        Raises:
            FormatError: the file is not one of ours, or of another task.
        """
        if not self.path.exists():
            return False
        try:
            states = torch.load(self.path, weights_only=True)
            random = states.pop("random")
        except Exception as error:  # torch raises what its parsers raise
            raise FormatError(f"{self.path} is no checkpoint of prunecell: {error}") from error
        if states.keys() != parts.keys():
            raise FormatError(f"{self.path} is of another run: it holds {sorted(states)}, not {sorted(parts)}")
        for name, part in parts.items():
            try:
                part.load_state_dict(states[name])
            except (
                RuntimeError,
                ValueError,
                TypeError,
                LookupError,
                AttributeError,
            ) as error:  # what torch's modules and optimizers raise
                raise FormatError(f"{self.path} is of another run: {name} does not fit: {error}") from None
        torch.set_rng_state(random)
        return True


def _save(states: dict[str, Any], file: BinaryIO) -> None:
    try:
        torch.save(states, file)
    except RuntimeError as error:  # with which torch hides that the disk is full
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
