"""torch.export: a program that runs without the code of its model."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from prunecell.disk.atomic import replacing
from prunecell.disk.endings import PROGRAM, check_ending
from prunecell.export.subject import Example, arguments, counts_samples, evaluating


def to_torch_export(model: nn.Module, example: Example, path: str | Path) -> None:
    """Write a program of `torch.export` (.pt2), for batches of any size where the model allows it.

    A model after `compact_` keeps its sparse layers: its file is small, and `import prunecell.sparse`, which registers
    their operators, must come before `torch.export.load`.

    Args:
        model: any that torch.export takes; exported as it is in evaluation mode.
        example: what it is called with; the first dimension counts samples.
        path: where; an existing file is replaced.

    Raises:
        OptionError: the path has the ending of another kind of file.
        OptionTypeError: the example is neither a tensor nor a tuple of tensors.

    >>> import tempfile
    >>> model, x = nn.Linear(3, 2), torch.ones(1, 3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     to_torch_export(model, x, f"{folder}/model.pt2")
    ...     torch.export.load(f"{folder}/model.pt2").module()(x).equal(model(x))
    True
    """
    check_ending(Path(path), PROGRAM)
    inputs = arguments(example)
    shapes: Any = torch.export.ShapesCollection()  # type: ignore[no-untyped-call] # torch's
    for x in inputs:
        if counts_samples(x, inputs):
            shapes[x] = {0: torch.export.Dim.AUTO}
    with evaluating(model):
        program = torch.export.export(model, inputs, dynamic_shapes=shapes)
        with replacing(Path(path)) as file:
            torch.export.save(program, file)
