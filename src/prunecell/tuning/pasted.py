"""Plans and programs as Python text, with the imports that it needs, to paste."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch.nn import functional as F

from prunecell.described import shown
from prunecell.plan import Plan
from prunecell.plan.spec import PruneSpec
from prunecell.tuning.bench import Bench
from prunecell.tuning.loaders import CPU


def as_text(plan: Plan | PruneSpec) -> str:
    """A plan as its author would write it, after the imports.

    >>> from prunecell import PruneSpec, Static
    >>> print(as_text({"0.*": None, "*": PruneSpec(schedule=Static(sparsity=0.9))}))
    from prunecell import PruneSpec, Static
    <BLANKLINE>
    plan = {
        '0.*': None,
        '*': PruneSpec(schedule=Static(sparsity=0.9)),
    }
    """
    if isinstance(plan, PruneSpec):
        return f"{imports(plan)}\n\nplan = {shown(plan)}"
    lines = [f"    {_key(key)}: {shown(spec)}," for key, spec in plan.items()]
    return "\n".join([imports(*plan.values(), *plan), "", "plan = {", *lines, "}"])


def imports(*values: object) -> str:
    """The import lines of all that the texts of some values name."""
    modules: dict[str, set[str]] = {}
    for value in values:
        for named in _named(value):
            modules.setdefault(_home(named), set()).add(named.__name__)
    return "\n".join(f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(modules.items()))


def _home(named: Any) -> str:  # noqa: ANN401 - a class or function
    """The outermost module that has it under its name."""
    module: str = named.__module__
    while (outer := module.rpartition(".")[0]) and getattr(sys.modules[outer], named.__name__, None) is named:
        module = outer
    return module


def _named(value: object) -> Iterator[Any]:
    """The classes and functions that the text of a value names, those of fields that are the default too."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _named(item)
    elif is_dataclass(value) and not isinstance(value, type):
        yield type(value)
        for field in fields(value):
            item = getattr(value, field.name)
            if field.repr and f"{field.name}=" in shown(value):
                yield from _named(item)
    elif hasattr(value, "__module__") and hasattr(value, "__name__"):
        yield value


def _key(key: object) -> str:
    return key.__name__ if isinstance(key, type) else repr(key)


def program(bench: Bench, needed: str, *parts: str, values: object = "exact") -> str:
    """A program that makes of the dense `model` and `train` what a trial made, on the same machine bit for bit.

    Args:
        bench: of the search.
        needed: more lines of imports, from modules of ours.
        parts: what is done, in order; empty ones are left out.
        values: of the archive.
    """
    how = "" if values == "exact" else f", values={values!r}"
    ours = [*needed.split("\n"), f"from prunecell.tuning.loaders import Stream{', split' if bench.held_out else ''}"]
    device = "" if bench.train.device == CPU else f", device=torch.device({str(bench.train.device)!r})"
    lines = (
        "import math" if any("math." in part for part in parts) else "",
        *("import torch", "import prunecell as pc", *sorted(ours)),
        f"torch.manual_seed({bench.seed})",
        "train, _ = split(train)  # as tune held out its validation data" if bench.held_out else "",
        f"batches = Stream(loader=train, seed={bench.train.seed}{device})  # in the order of the trial",
        *parts,
        f'pc.save(model, "small.pcell"{how})',
    )
    return "".join(f"{line}\n" for line in lines if line)


def loop(bench: Bench, keeper: str, *, between: str = "") -> str:
    """The lines of a training for all epochs of a trial.

    Args:
        bench: of the search.
        keeper: the name of the Pruner or Quantizer.
        between: lines at the beginning of each epoch.
    """
    is_default = bench.loss is F.cross_entropy
    loss = "torch.nn.functional.cross_entropy" if is_default else "loss"
    told = "" if is_default else "# loss: the one that tune was given.\n"
    return f"""\
{told}n_steps = {bench.n_steps_told}
slower = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 + 0.5 * math.cos(math.pi * (step / n_steps)))
model.train()
for epoch in range({bench.epochs}):
{between}    for inputs, labels in batches.epoch(epoch):
        optimizer.zero_grad()
        {loss}(model(inputs), labels).backward()
        optimizer.step()
        slower.step()
        {keeper}.step(len(labels))"""
