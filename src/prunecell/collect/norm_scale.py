"""Which BatchNorm reads a layer's output: found out by trial, while the model is run."""

import weakref
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from prunecell.collect.hook import Hook
from prunecell.collect.inputs import KNOWN
from prunecell.errors import OptionError

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(eq=False)
class NormScale:
    """The scale of the BatchNorm whose input is the output of a layer: the very tensor, unchanged.

    Attributes:
        owner: the layer.
        norms: those that it may be.
        n_runs: of the layer, while it was tried.
        readers: what read these outputs.
    """

    owner: nn.Module
    norms: tuple[nn.Module, ...]
    n_runs: int = 0
    readers: list[nn.Module] = field(default_factory=list)
    _output: tuple[weakref.ref[Tensor], int] | None = None
    _hooks: list[RemovableHandle] = field(default_factory=list)

    @classmethod
    def of(cls, owner: nn.Module, model: nn.Module) -> "NormScale":
        """What may be behind a layer: every BatchNorm with a scale for each of its outputs."""
        n_outputs = getattr(owner, "out_channels", getattr(owner, "out_features", None))
        norms = [m for m in model.modules() if isinstance(m, _NORMS) and m.affine and m.num_features == n_outputs]
        return cls(owner, tuple(norms) if isinstance(owner, KNOWN) else ())

    def begin(self) -> None:
        """Try."""
        self._hooks.append(self.owner.register_forward_hook(Hook(self, NormScale.ran)))
        self._hooks += [norm.register_forward_pre_hook(Hook(self, NormScale.read)) for norm in self.norms]

    def forget(self) -> None:
        """Forget what was found: the model may have changed when the next masks are filled."""
        self.n_runs, self.readers = 0, []

    def stop(self) -> None:
        """Listen no longer."""
        self._output = None
        while self._hooks:
            self._hooks.pop().remove()

    def ran(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG002 - torch's hook
        """The layer was run: this is its output."""
        self.n_runs += 1
        self._output = (weakref.ref(output), _version(output))

    def read(self, norm: nn.Module, args: tuple[Any, ...]) -> None:
        """A BatchNorm is about to read this."""
        if not args or self._output is None:
            return
        output, version = self._output[0](), self._output[1]
        if output is None or output is not args[0] or version != _version(output):
            return
        if not isinstance(self.owner, nn.Linear) or output.ndim == 2:  # noqa: PLR2004 - (N, C), where C are its outputs
            self.readers.append(norm)

    @property
    def _behind(self) -> nn.Module | None:
        """The BatchNorm, if the layer was run and each output was read by this one, once."""
        is_one = len(self.readers) == self.n_runs and len(set(self.readers)) == 1
        return self.readers[0] if is_one else None

    def scale(self, name: str, n_dims: int) -> Tensor | None:
        """|gamma|, (rows, 1, ...); None before the layer was run.

        Raises:
            OptionError: not every output of the layer went into the same BatchNorm, once.
        """
        if not self.n_runs:
            return None
        if self._behind is None:
            raise OptionError(
                f"the criterion of {name!r} needs the scale of the one BatchNorm that reads its layer's output:"
                f" {self.n_runs} outputs went straight into {len(self.readers)}; leave this weight out of the plan"
            )
        scale: Tensor = self._behind.weight  # type: ignore[assignment] # a parameter
        return scale.detach().abs().view(-1, *[1] * (n_dims - 1))

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_output": None}


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version  # noqa: SLF001 - no public name
