"""The small file of a pruned network: written, read back bit for bit, and entered into the report."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from n2d2.solver import SolverOptimizer
from prunecell.archive import inspect, load, save
from prunecell.errors import FormatError
from prunecell.memory import flat
from prunecell.report import Report


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A file that holds a network.

    Attributes:
        path: of the file.
        tensors: name -> its bytes within the file.
        n_bytes: of the whole file. n_bytes_dense: of all its tensors, dense.
    """

    path: Path
    tensors: dict[str, int]
    n_bytes: int
    n_bytes_dense: int

    def entered(self, report: Report) -> Report:
        """The report of the network, with the bytes that each weight takes in the file."""
        weights = (replace(one, bytes_stored=self.tensors[one.name]) for one in report.weights)
        return replace(report, weights=tuple(weights))


def checkpoint_bytes(optimizer: SolverOptimizer) -> int:
    """The bytes of a checkpoint of a training: the parameters, and what the solvers remember of each."""
    of_group = (
        sum(one.numel() * one.element_size() for one in group["params"]) * (1 + _n_remembered(group))
        for group in optimizer.param_groups
    )
    return sum(of_group)


def integers_checkpoint_bytes(model: nn.Module) -> int:
    """The bytes of a checkpoint of integers: the parameters, two moments of each, and a latent of each weight."""
    return sum((3 + (one.ndim > 1)) * one.numel() * one.element_size() for one in model.parameters())


def _n_remembered(group: Mapping[str, Any]) -> int:
    return 2 if group["solver"] == "Adam" else int(bool(group["momentum"] or group["decay"]))


def store(model: nn.Module, path: Path) -> Stored:
    """Write a network as a `.pcell` file, and read it back.

    Raises:
        FormatError: a tensor is not the same bits; a defect of ours, or of the disk.
    """
    save(model, path)
    reloaded = load(path)
    for name, tensor in model.state_dict().items():
        there = flat(tensor.cpu()).view(torch.uint8)
        if not torch.equal(there, flat(reloaded[name]).view(torch.uint8)):
            raise FormatError(f"{path}: {name} was not read back as it was written")
    facts = inspect(path)
    return Stored(
        path=path,
        tensors={one.name: one.bytes_stored for one in facts},
        n_bytes=path.stat().st_size,
        n_bytes_dense=sum(one.bytes_dense for one in facts),
    )
