"""Collecting what a criterion needs beside the values of one weight."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch import distributed as dist

from prunecell.bits.mask import Mask
from prunecell.collect.gradients import OF_GRADIENTS, OVER_STEPS, Gradients
from prunecell.collect.inputs import KNOWN, InputNorms
from prunecell.collect.norm_scale import NormScale
from prunecell.errors import OptionError
from prunecell.evidence import Needs

FROM_BATCHES = Needs.HESSIAN_GRADIENT | Needs.SYNAPTIC_FLOW
"""What no step of training gives, only `Pruner.calibrate`."""
_ALIKE_EVERYWHERE = Needs.NORM_SCALE | Needs.SYNAPTIC_FLOW
"""What every process finds alike, because it hangs on the weights and not on the samples."""


@dataclass(eq=False)
class Collector:
    """What is collected for one weight.

    Copied with the owner, it goes on there: torch copies the hooks of a module, and a handle with what it removes.

    Attributes:
        needs: what the criterion asks for.
        active: whether the next step is one before an update.
        from_batches: what only `Pruner.calibrate` gives.
    """

    needs: Needs
    owner: nn.Module
    gradients: Gradients
    inputs: InputNorms
    norm_scale: NormScale
    active: bool = False
    from_batches: dict[Needs, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, needs: Needs, owner: nn.Module, model: nn.Module, n_gradients: int) -> "Collector":
        """The collector of a weight of `owner`, which is a module of `model`."""
        scale = NormScale.of(owner, model if Needs.NORM_SCALE in needs else nn.Module())
        return cls(needs, owner, Gradients(needs, n_gradients), InputNorms(owner), scale)

    def begin(self, *, afresh: bool = False, in_any_mode: bool = False) -> None:
        """Collect in the next step; what is whole already is kept as it is.

        Args:
            afresh: it is not.
            in_any_mode: inputs count while the model is not in training mode too.
        """
        if self.complete and not afresh:
            self.stop()
            return
        self.end()
        self.active = True
        self.inputs.in_any_mode = in_any_mode
        if Needs.INPUTS in self.needs:
            self.inputs.begin()
        if Needs.NORM_SCALE in self.needs:
            self.norm_scale.begin()

    def end(self) -> None:
        """Collect nothing more, and forget what is of one step."""
        self.stop()
        self.gradients.forget_step()
        self.inputs.squares = None
        self.norm_scale.forget()
        self.from_batches.clear()

    def forget(self) -> None:
        """Collect nothing more, and forget all."""
        self.end()
        self.gradients.forget()

    def stop(self) -> None:
        """Collect nothing more."""
        self.active = False
        self.inputs.stop()
        self.norm_scale.stop()

    @property
    def complete(self) -> bool:
        """Whether all that is needed is there and finite: of a step that overflowed nothing is believed."""
        return all(map(self._has, self.needs))

    @property
    def lacks(self) -> Needs:
        """What is needed and not there."""
        missing = Needs.NOTHING
        for need in self.needs:
            missing |= Needs.NOTHING if self._has(need) else need
        return missing

    def _has(self, need: Needs) -> bool:
        if need in OF_GRADIENTS:
            return self.gradients.has(need)
        if need is Needs.INPUTS:
            return self.inputs.squares is not None and bool(self.inputs.squares.isfinite().all())
        return self.norm_scale.n_runs > 0 if need is Needs.NORM_SCALE else need in self.from_batches

    def evidence(self, mask: Mask, name: str) -> dict[Needs, Tensor]:
        """What was collected for a weight that has this mask.

        Raises:
            OptionError: the BatchNorm behind the layer is needed, and there is not exactly one.
        """
        found: dict[Needs, Tensor | None] = dict(self.from_batches)
        for need in self.needs:
            if need in OF_GRADIENTS:
                found[need] = self.gradients.of(need)
            elif need is Needs.INPUTS:
                found[need] = self.inputs.as_the_weight(mask.shape)
            elif need is Needs.NORM_SCALE:
                found[need] = self.norm_scale.scale(name, len(mask.shape))
        return {need: tensor for need, tensor in found.items() if tensor is not None}

    def add_gradient(self, gradient: Tensor, mask: Mask, values: Callable[[], Tensor], *, more: bool) -> None:
        """Take what has accumulated until now in a step.

        Where the mask prunes, `gradient` holds the last backward pass only, because it was masked after those before.

        Args:
            gradient: of the mask's shape; it may be sparse.
            mask: that those before were masked by.
            values: what gives the values of the weight, with those that the mask hides.
            more: whether this pass was added to those before; otherwise it takes their place, as after a `zero_grad`.
        """
        if self.gradients.adding or (self.active and self.needs & OF_GRADIENTS):
            self.gradients.add(gradient, mask, values, more=more)

    def check(self, name: str, parameter: Tensor) -> None:
        """Refuse a weight for which what is needed never comes.

        Raises:
            OptionError: it is not said how many gradients; it is frozen and gradients are needed; its layer has no
                inputs or no BatchNorm that are known; or several processes train together, whose gradients and inputs
                differ.
        """
        if Needs.GRADIENT_SAMPLES in self.needs and self.gradients.n_samples < 1:
            raise OptionError(f"the criterion of {name!r} needs GRADIENT_SAMPLES: it must say how many, as n_gradients")
        differing = self.needs & ~_ALIKE_EVERYWHERE
        if differing and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            raise OptionError(
                f"the criterion of {name!r} needs {differing.name}, which every process has of its own samples only:"
                " the masks would differ; use one that needs nothing, such as magnitude"
            )
        if self.needs & (OF_GRADIENTS | Needs.HESSIAN_GRADIENT) and not parameter.requires_grad:
            raise OptionError(f"the criterion of {name!r} needs gradients, and this parameter is frozen")
        if self.needs & (Needs.INPUTS | Needs.NORM_SCALE) and not isinstance(self.owner, KNOWN):
            what = "inputs" if Needs.INPUTS in self.needs else "outputs"
            raise OptionError(
                f"the criterion of {name!r} needs the {what} of its layer: they are known for Linear and Conv1d to"
                f" Conv3d, not for {type(self.owner).__name__}"
            )
        if Needs.NORM_SCALE in self.needs and not self.norm_scale.norms:
            raise OptionError(
                f"the criterion of {name!r} needs the scale of the BatchNorm that reads its layer's output: the model"
                f" has none with a scale for each of {parameter.shape[0]} outputs; leave this weight out of the plan"
            )


def adds_up(needs: Needs) -> bool:
    """Whether something is collected over many steps."""
    return bool(needs & OVER_STEPS)
