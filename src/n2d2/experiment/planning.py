"""What `[prunecell.Plan]` asks for: prunecell's default plan, for the cells of a network; and what was not reached."""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from torch import nn

from n2d2.cells.deepnet_cell import DeepNetCell
from n2d2.cells.naming import key_of
from n2d2.cells.weight_cell import WeightCell
from n2d2.connected import connected
from n2d2.network.default_plan import PLAN_SECTION, DefaultPlan
from n2d2.network.network import Network
from prunecell import PruneSpec, default_plan
from prunecell.plan import Plan, resolve
from prunecell.schedules import Cubic


def planned(model: DeepNetCell, asked: DefaultPlan, *, seed: int, start: float = 0.0) -> Plan:
    """The default plan: name of the weight of each Conv, Deconv and Fc cell -> its spec; None: it is left dense.

    Args:
        model: the network.
        asked: what the file says.
        seed: >= 0.
        start: the sparsity to begin with, in [0, 1]; where it is above the one that is asked for, it stays as it is.
    """
    cells = [cell for cell in model if isinstance(cell, WeightCell)]
    weighted = nn.Module()  # without the other cells, of which some hold what looks like weights
    weighted._modules.update((key_of(cell.name), cell) for cell in cells)  # noqa: SLF001 - a cell may be called like a method
    plan = default_plan(weighted, sparsity=max(start, asked.sparsity), epochs=asked.epochs)
    spec = cast("PruneSpec", plan["*"])
    schedule = replace(cast("Cubic", spec.schedule), start=start)
    connections = {cell.weight_name: cell.connections for cell in cells if cell.connections is not None}
    spec = connected(replace(spec, schedule=schedule, seed=seed), connections)
    pruned = {target.name for target in resolve(weighted, plan)[0]}
    return {cell.weight_name: spec if cell.weight_name in pruned else None for cell in cells}


def unreached(network: Network, reached: Mapping[str, float]) -> str:
    """Say what is not pruned as far as the file wants, because the learning was too short; empty: all is.

    Args:
        network: what the file describes.
        reached: cell -> the sparsity that its schedule has asked for until now.
    """
    plan = network.default_plan
    if plan is None:
        wanted = {cell: quantizer.threshold for cell, quantizer in network.quantizers.items()}
        behind = [f"{cell} {now:.3g} of {wanted[cell]:g}" for cell, now in reached.items() if now < wanted[cell]]
        goal = "their Threshold"
    else:
        behind = [f"{now:.3g} of {plan.sparsity:g}" for now in {*reached.values()} if now < plan.sparsity]
        goal = f"the Sparsity of [{PLAN_SECTION}]"
    return f"not at {goal} yet: {', '.join(behind)}" if behind else ""
