"""PruneCell: N2D2's way to say how the weights of one cell are pruned. It translates to prunecell's Pruner."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import torch
from torch import nn
from torch.optim import Optimizer

from n2d2 import global_variables
from n2d2.checked import Declared
from n2d2.error_handler import WrongInputType, WrongValue, n2d2_errors, no_such_name
from n2d2.fields import choice, count, number
from n2d2.pruning import of_cell, sparsity_of, spec_of
from n2d2.refusal import Refused, refused_class
from n2d2.tensor import Tensor
from n2d2.updating import UNKNOWN_EPOCH
from prunecell import Plan, Pruner, PruneSpec
from prunecell.checks import check_count, check_number


class Prunable(Protocol):
    """What a PruneCell needs of the cell that it is on."""

    name: str

    @property
    def weight(self) -> nn.Parameter:
        """The weights, which are pruned in place."""

    @property
    def weight_name(self) -> str:
        """The name of the weight in a network, on which draws hang."""

    @property
    def connections(self) -> torch.Tensor | None:
        """Bool, of the weight's shape: which weights there are; None where all are."""


class Quantizer(Declared, shared=True):
    """What N2D2's quantizers share: `isinstance(x, Quantizer)`. Never instantiated itself."""

    range: int = count(default=255)

    def set_range(self, integer_range: int) -> None:
        """Set `range`, which has no effect on a PruneCell."""
        self.range = integer_range


class CellQuantizer(Quantizer, shared=True):
    """What acts on the weights of a cell: `isinstance(x, CellQuantizer)`. Never instantiated itself."""

    quant_mode: str = choice("Default", "Symmetric", "Asymmetric", "FullRange", default="Default")

    @abstractmethod
    def add_weights(self, weights: Tensor, diff_weights: Tensor | None = None) -> None:
        """Act on this tensor too, in its own memory."""

    @abstractmethod
    def add_biases(self, biases: Tensor, diff_biases: Tensor | None = None) -> None:
        """Act on these biases too."""


class PruneCell(CellQuantizer):
    """How the weights of one cell are pruned. Biases never are.

    Fields:
        prune_mode: "Identity" (no pruning), "Static" (to `threshold` at once), or "Gradual" (to `start` at once, then
            `gamma` more at each update until `threshold`).
        prune_filler: "Random"; "IterNonStruct" (all below `delta`, then below 2 delta, until enough); "None".
        threshold, start: sparsities in [0, 1]. gamma: > 0 in Gradual. delta: > 0.
        stepsize: samples between two updates in Gradual; 0: once per epoch.
        quant_mode, range: N2D2 has them for all quantizers; without effect on pruning.

    Give it to one cell, as `quantizer=` or by `cell.quantizer = ...`; the masks are filled at once on the weights of
    that moment. Setting a field later fills them again.

    Raises:
        WrongValue: (ValueError) an illegal value, or it is on another cell already.
        WrongInputType: (TypeError) a value of the wrong type.

    >>> PruneCell(prune_mode="Static", threshold=0.3, prune_filler="IterNonStruct").spec.schedule
    Static(sparsity=0.3)
    """

    prune_mode: str = choice("Identity", "Static", "Gradual", default="Identity")
    prune_filler: str = choice("None", "Random", "IterNonStruct", default="Random")
    threshold: float = number(default=0.2, low=0, high=1)
    delta: float = number(default=0.001, low=0, open_low=True)
    start: float = number(default=0.1, low=0, high=1)
    stepsize: int = count(default=0)
    gamma: float = number(default=0.05)

    def __post_init__(self) -> None:
        if self.prune_mode == "Gradual":
            with n2d2_errors():
                check_number("gamma", self.gamma, low=0, open_low=True)
        self._forget()

    def _forget(self) -> None:
        self._begun: float | None = None
        self._owner: str | None = None
        self._weights: dict[str, nn.Parameter] = {}
        self._connections: torch.Tensor | None = None
        self._pruner: Pruner | None = None
        self._optimizer: Optimizer | None = None

    def __setattr__(self, name: str, value: object) -> None:
        if "_pruner" in self.__dict__ and not name.startswith("_"):
            type(self)(**{**self.settings(), name: value})  # refuses what does not fit the other fields
        super().__setattr__(name, value)
        if self.__dict__.get("_weights") and not name.startswith("_"):
            self._prune()

    @property
    def spec(self) -> PruneSpec | None:
        """The same in prunecell's words; None where nothing is pruned."""
        return spec_of(self.settings(), global_variables.seed, self._begun)

    def begin_at(self, sparsity: float) -> None:
        """Go on from masks of this sparsity, in [0, 1], that were read: Gradual adds to it, Identity holds them."""
        self._begun = sparsity

    @property
    def counts_epochs(self) -> bool:
        """Whether the masks are updated once an epoch, so that somebody must say how many samples that is."""
        return self.prune_mode == "Gradual" and not self.stepsize

    # ---- on a cell

    def attach(self, cell: Prunable) -> None:
        """Prune the weights of this cell from now on; `cell.quantizer = ...` calls it."""
        if self._weights:
            raise WrongValue(
                f"this PruneCell is on {self._owner or 'weights of its own'!r} already"
                f": give {cell.name!r} one of its own"
            )
        self._owner, self._weights = cell.name, {cell.weight_name: cell.weight}
        self._connections = cell.connections
        self._prune()

    def detach(self) -> None:
        """Let go of the weights; those that are pruned stay zero until they are trained."""
        if self._pruner is not None:
            self._pruner.finalize(early=True)
        self._forget()

    def _prune(self) -> None:
        if self._pruner is not None:
            self._pruner.finalize(early=True)
        self._pruner = None
        spec = self.spec
        if spec is not None:
            connections = {} if self._connections is None else {next(iter(self._weights)): self._connections}
            plan: Plan = dict.fromkeys(self._weights, of_cell(spec, self._owner, connections))
            self._pruner = Pruner(_module_of(self._weights), plan, epoch_size=UNKNOWN_EPOCH)
            if self._optimizer is not None:
                self._pruner.attach(self._optimizer)

    @property
    def pruner(self) -> Pruner | None:
        """The engine's Pruner of the weights; None where nothing is pruned."""
        return self._pruner

    def watch(self, optimizer: Optimizer) -> None:
        """Act around this optimizer's steps, if it trains the weights."""
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if any(id(weight) in held for weight in self._weights.values()):
            self._optimizer = optimizer
            if self._pruner is not None:
                self._pruner.attach(optimizer)

    @torch.no_grad()
    def take_mask(self, mask: torch.Tensor) -> None:
        """Go on with a mask that was read, on the weights that are there; what it prunes is the current threshold.

        Args:
            mask: bool, of the shape of the cell's weight, True keeps.
        """
        ((name, weight),) = self._weights.items()
        values = weight.clone()
        self.begin_at(sparsity_of(mask, self._connections))
        self._prune()
        weight.copy_(values)
        if self._pruner is not None:
            self._pruner.set_masks({name: mask})

    def release(self) -> None:
        """Prune nothing, until a mask is taken or the masks are filled again: other weights are about to come in."""
        if self._pruner is not None:
            self._pruner.finalize(early=True)
        self._pruner = None

    def refill(self) -> None:
        """Fill the masks again, on the weights that are there now."""
        if self._pruner is not None:
            self._pruner.refill()

    def state_dict(self) -> dict[str, Any] | None:
        """The state of the pruning, for `load_state_dict`; None where nothing is pruned."""
        return None if self._pruner is None else {**self._pruner.state_dict(), "begun": self._begun}

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Go on from a `state_dict`."""
        if state is None or not self._weights:
            return
        pruner = {key: value for key, value in state.items() if key != "begun"}
        if state.get("begun") != self._begun:
            self._begun = state.get("begun")
            self._prune()
        if self._pruner is not None:
            weights = dict(zip(self._weights, state["weights"].values(), strict=False))  # a copy may have another name
            self._pruner.load_state_dict({**pruner, "weights": self._pruner.state_dict()["weights"] | weights})

    # ---- N2D2's methods

    def get_quantized_weights(self, input_idx: int = 0) -> Tensor:
        """The pruned weights: those of the cell, or the `input_idx`-th that were added."""
        return Tensor.from_torch(self._weight(input_idx)[1].detach())

    def get_pruned_masks(self, input_idx: int = 0) -> Tensor:
        """The mask of these weights: 1 keeps, 0 prunes."""
        name, weight = self._weight(input_idx)
        masks = {} if self._pruner is None else self._pruner.masks
        mask = masks.get(name, torch.ones_like(weight, dtype=torch.bool))
        return Tensor.from_torch(mask.to(torch.uint8))

    def get_current_threshold(self) -> float:
        """The sparsity that the masks were last filled to; 0 before."""
        if self._pruner is None:
            return 0.0
        return self._pruner.target_sparsity(next(iter(self._weights)))

    def add_weights(self, weights: Tensor, diff_weights: Tensor | None = None) -> None:  # noqa: ARG002 - N2D2's signature
        """Prune this tensor too, in its own memory; `diff_weights` is not needed, for torch keeps gradients."""
        if not isinstance(weights, Tensor):
            raise WrongInputType(f"weights must be an n2d2.Tensor, not a {type(weights).__name__}")
        self._weights[f"added_{len(self._weights)}"] = nn.Parameter(weights.values)
        self._prune()

    def add_biases(self, biases: Tensor, diff_biases: Tensor | None = None) -> None:
        """Biases are not pruned: nothing to do."""

    def _weight(self, input_idx: int) -> tuple[str, nn.Parameter]:
        if not self._weights:
            raise WrongValue("this PruneCell is on no cell: it has no weights yet")
        with n2d2_errors():
            check_count("input_idx", input_idx)
        if input_idx >= len(self._weights):
            raise WrongValue(f"input_idx={input_idx} is illegal: it must be in [0, {len(self._weights) - 1}]")
        return list(self._weights.items())[input_idx]

    def __getstate__(self) -> dict[str, Any]:
        """A copy is on no cell; a copied cell puts its copy on itself."""
        free: dict[str, Any] = {
            "_begun": None,
            "_owner": None,
            "_weights": {},
            "_connections": None,
            "_pruner": None,
            "_optimizer": None,
        }
        return {**self.__dict__, **free}


def _module_of(weights: Mapping[str, nn.Parameter]) -> nn.Module:
    """A module with these parameters under these names, whose dots lead into modules within."""
    root = nn.Module()
    for name, weight in weights.items():
        owner = root
        *path, leaf = name.split(".")
        for part in path:
            owner = owner._modules.setdefault(part, nn.Module())  # type: ignore[assignment] # noqa: SLF001 - a cell may be called like a method
        owner.register_parameter(leaf, weight)
    return root


QUANTIZATION = "weights and outputs keep their precision; PruneCell prunes, and prunecell.save writes few bits a weight"

ActivationQuantizer = refused_class("n2d2.quantizer.ActivationQuantizer", QUANTIZATION)
SATCell = refused_class("n2d2.quantizer.SATCell", QUANTIZATION)
SATAct = refused_class("n2d2.quantizer.SATAct", QUANTIZATION)
LSQCell = refused_class("n2d2.quantizer.LSQCell", QUANTIZATION)
LSQAct = refused_class("n2d2.quantizer.LSQAct", QUANTIZATION)
PTQ = Refused(QUANTIZATION, "n2d2.quantizer.PTQ")
fuse_qat = Refused(QUANTIZATION, "n2d2.quantizer.fuse_qat")


if not TYPE_CHECKING:  # a type checker would take every name for a member

    def __getattr__(name: str) -> NoReturn:
        raise no_such_name(__name__, name, globals())
