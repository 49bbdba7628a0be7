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


def program(needed: str, *parts: str, values: object = "exact") -> str:
    """A program that makes a `model` small and saves it, as a trial of a search does it.

    Args:
        needed: more lines of imports.
        parts: what is done, in order; empty ones are left out.
        values: of the archive.
    """
    how = "" if values == "exact" else f", values={values!r}"
    lines = ("import torch", "import prunecell as pc", needed.strip(), *parts, f'pc.save(model, "small.pcell"{how})')
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
    told = "# The batches come in another order than in the trial, so the file is another one: judge it, too.\n"
    told += "" if is_default else "# loss: the one that tune was given.\n"
    return f"""\
{told}slower = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, {bench.n_steps_told})
model.train()
for epoch in range({bench.epochs}):
{between}    for inputs, labels in train:
        optimizer.zero_grad()
        {loss}(model(inputs), labels).backward()
        optimizer.step()
        slower.step()
        {keeper}.step(len(labels))"""
