"""Cells without weights: pooling, dropout, softmax, elementwise operations, changes of shape."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from n2d2.activation import Activation as ActivationFunction
from n2d2.cells.cell import Cell
from n2d2.cells.mapping import as_table
from n2d2.cells.weights import dims
from n2d2.checks import check_flag
from n2d2.error_handler import ImplementationError, WrongInputType, WrongValue, check_choice
from n2d2.fields import Check
from n2d2.refusal import refused_class
from n2d2.tensor import Tensor as N2D2Tensor
from n2d2.trace import Trace
from n2d2.warning import warn_caller
from prunecell.checks import check_count, check_number

POOLS: dict[tuple[str, int], Callable[..., nn.Module]] = {
    ("Max", 1): nn.MaxPool1d,
    ("Max", 2): nn.MaxPool2d,
    ("Max", 3): nn.MaxPool3d,
    ("Average", 1): nn.AvgPool1d,
    ("Average", 2): nn.AvgPool2d,
    ("Average", 3): nn.AvgPool3d,
}
GLOBAL_POOLS: dict[str, Callable[..., Tensor]] = {"Max": torch.amax, "Average": torch.mean}
POOLING: Mapping[str, Check] = {"pooling": partial(check_choice, legal=GLOBAL_POOLS)}

Weighted = Sequence[tuple[Tensor, float, float]]

OPERATIONS: dict[str, Callable[[Weighted], Tensor]] = {
    "Sum": lambda inputs: reduce(torch.add, _scaled(inputs)),
    "AbsSum": lambda inputs: reduce(torch.add, _scaled([(x.abs(), w, 0) for x, w, _ in inputs])),
    "EuclideanSum": lambda inputs: torch.linalg.vector_norm(torch.stack(_legs(inputs)), dim=0),
    "Prod": lambda inputs: reduce(torch.mul, [x for x, _, _ in inputs]),
    "Max": lambda inputs: reduce(torch.maximum, [x for x, _, _ in inputs]),
}
"""ElemWise's operations on (input, weight, shift)."""

WITHOUT_EFFECT: Mapping[str, Sequence[str]] = {
    "AbsSum": ["shifts"],
    "Prod": ["weights", "shifts"],
    "Max": ["weights", "shifts"],
}
"""Operation -> the options of an ElemWise that it does not look at."""


def _legs(inputs: Weighted) -> list[Tensor]:
    """What is squared in an EuclideanSum; a norm, and no root of it, has a gradient where all are zero."""
    shift = math.hypot(*(s for _, _, s in inputs))
    legs = _scaled([(x, w, 0) for x, w, _ in inputs])
    return [*legs, torch.full_like(legs[0], shift)] if shift else legs


def _scaled(inputs: Weighted) -> list[Tensor]:
    return [x if (w, s) == (1, 0) else w * x + s for x, w, s in inputs]


class Pool(Cell):
    """The largest or the mean value of each window, over several channels: those that a mapping tells, or all.

    Args:
        pool_dims: sizes of the window, x first.
        config: name, pooling ("Max", "Average": padding counts), stride_dims, padding_dims, activation, and mapping
            (inputs x outputs), which channels each output pools over. Without one, there are as many outputs as
            channels and each pools over all, as in N2D2; a warning says so. A Pool2d pools each channel by itself.

    >>> Pool([2, 2], stride_dims=[2, 2], mapping=torch.eye(6))(torch.zeros(1, 6, 28, 28)).shape
    torch.Size([1, 6, 14, 14])
    """

    OPTIONS: ClassVar[Mapping[str, Any]] = {
        "pooling": "Max",
        "stride_dims": 1,
        "padding_dims": 0,
        "mapping": None,
    }
    KINDS: ClassVar[Mapping[str, tuple[type, ...]]] = {"mapping": (object,)}
    CHECKS: ClassVar[Mapping[str, Check]] = {**POOLING, "mapping": lambda _, value: _check_pooled(value)}
    REFUSED: ClassVar[Mapping[str, str]] = {"ext_padding_dims": "put a Padding cell before it"}
    ALONE: ClassVar[bool] = False
    """Whether without a mapping each output pools over its own channel alone."""

    def __init__(self, pool_dims: Sequence[int], **config: Any) -> None:  # noqa: ANN401
        n_dims = len(pool_dims) if isinstance(pool_dims, list | tuple) else 0
        if ("Max", n_dims) not in POOLS:
            raise WrongInputType(f"pool_dims={pool_dims!r} is illegal: it must be a list of 1 to 3 sizes, x first")
        sizes = dims("pool_dims", pool_dims, n_dims, low=1)
        super().__init__(fixed={"pool_dims": sizes}, **config)
        options = self.options
        options["stride_dims"] = dims("stride_dims", options["stride_dims"], n_dims, low=1)
        options["padding_dims"] = dims("padding_dims", options["padding_dims"], n_dims, low=0)
        self.layer = POOLS[options["pooling"], n_dims](
            kernel_size=sizes[::-1],
            stride=options["stride_dims"][::-1],
            padding=options["padding_dims"][::-1],
        )
        self.changed("mapping")

    def changed(self, option: str) -> None:
        """A new mapping says over which channels each output pools."""
        if option == "mapping":
            mapping = self.options["mapping"]
            self._channels = _channels_of_outputs(mapping)
            self._over_all = mapping is None and not self.ALONE
            if self._over_all:
                warn_caller(
                    f"{self.name!r} has no mapping: as in N2D2, each output of a Pool pools over all channels"
                    "; a Pool2d pools each channel by itself"
                )

    def forward(self, *inputs: Tensor) -> Tensor:
        """(batch, channels, *sizes) -> (batch, outputs, *smaller)."""
        pooled, over = self.layer(self.joined(inputs)), GLOBAL_POOLS[self.options["pooling"]]
        if self._over_all:
            pooled = over(pooled, dim=1, keepdim=True).expand_as(pooled)
        elif self._channels is not None:
            pooled = torch.stack([over(pooled[:, channels], dim=1) for channels in self._channels], 1)
        return self.activated(pooled)


def _channels_of_outputs(mapping: object) -> list[list[int]] | None:
    """The channels that each output pools over; None where each has its own alone."""
    if mapping is None:
        return None
    table = as_table(mapping)
    if not table.any(0).all():
        raise WrongValue("mapping is illegal: every output of a Pool must see at least one channel")
    channels = [column.nonzero().flatten().tolist() for column in table.T]
    return None if channels == [[i] for i in range(len(table))] else channels


def _check_pooled(mapping: object) -> None:
    _channels_of_outputs(mapping)


class Pool2d(Pool):
    """The largest or the mean value of each window, each channel by itself; arguments as for Pool.

    >>> Pool2d([2, 2], stride_dims=[2, 2], pooling="Max")(torch.zeros(1, 6, 28, 28)).shape
    torch.Size([1, 6, 14, 14])
    """

    ALONE = True
    REFUSED: ClassVar[Mapping[str, str]] = {
        **Pool.REFUSED,
        "mapping": "each output has its own channel; a Pool takes any",
    }


class GlobalPool2d(Pool2d):
    """The largest or the mean value of each channel. Its `pool_dims` are [], whatever comes in.

    >>> GlobalPool2d(pooling="Average")(torch.ones(2, 8, 7, 7)).shape
    torch.Size([2, 8, 1, 1])
    """

    OPTIONS: ClassVar[Mapping[str, Any]] = {"pooling": "Max"}
    KINDS: ClassVar[Mapping[str, tuple[type, ...]]] = {}
    CHECKS = POOLING
    REFUSED: ClassVar[Mapping[str, str]] = {
        **Pool2d.REFUSED,
        **dict.fromkeys(
            ("pool_dims", "stride_dims", "padding_dims"), "it pools each channel whole; a Pool2d takes windows"
        ),
    }

    def __init__(self, **config: Any) -> None:  # noqa: ANN401
        Cell.__init__(self, fixed={"pool_dims": []}, **config)

    def forward(self, *inputs: Tensor) -> Tensor:
        """(batch, channels, y, x) -> (batch, channels, 1, 1)."""
        pooled = GLOBAL_POOLS[self.options["pooling"]](self.joined(inputs), dim=(2, 3), keepdim=True)
        return self.activated(pooled)


PoolGlobal2d = GlobalPool2d


class Dropout(Cell):
    """Zero each value with probability `dropout` while learning, the others scaled up."""

    OPTIONS: ClassVar[Mapping[str, Any]] = {"dropout": 0.5}
    KINDS: ClassVar[Mapping[str, tuple[type, ...]]] = {"dropout": (float, int)}
    CHECKS: ClassVar[Mapping[str, Check]] = {"dropout": partial(check_number, low=0, high=1)}

    def forward(self, *inputs: Tensor) -> Tensor:
        """Any shape, unchanged."""
        return F.dropout(self.joined(inputs), self.options["dropout"], self.training)


class Softmax(Cell):
    """exp(x) / sum exp(x), over the channels, in groups of `group_size` where that is > 0.

    With `with_loss`, a Target takes the cross-entropy of it. So, as a plain module in learning mode, the cell hands
    its input on: logits, for torch's cross_entropy. In testing, and for n2d2.Tensors, it gives probabilities.
    """

    OPTIONS: ClassVar[Mapping[str, Any]] = {"with_loss": False, "group_size": 0}
    KINDS: ClassVar[Mapping[str, tuple[type, ...]]] = {"with_loss": (bool, int)}
    CHECKS: ClassVar[Mapping[str, Check]] = {"with_loss": check_flag, "group_size": check_count}

    def __call__(self, *inputs: Any) -> Any:  # noqa: ANN401
        """Propagate; what was through a Softmax with loss already stays as it is."""
        given = next(iter(inputs), None)
        done = self.options["with_loss"] and isinstance(given, N2D2Tensor) and given.logits is not None
        return inputs[0] if done else super().__call__(*inputs)

    def wrap(self, values: Tensor, trace: Trace) -> N2D2Tensor:
        """Probabilities, with the logits for the Target beside them."""
        if not self.options["with_loss"]:
            return super().wrap(values, trace)
        made = super().wrap(self._softmax(values) if self.training else values, trace)
        made.logits = values if self.training else values.clamp_min(torch.finfo(values.dtype).tiny).log()
        return made

    def forward(self, *inputs: Tensor) -> Tensor:
        """(batch, channels, ...), unchanged in shape."""
        x = self.joined(inputs)
        return x if self.options["with_loss"] and self.training else self._softmax(x)

    def _softmax(self, x: Tensor) -> Tensor:
        size = self.options["group_size"]
        if size and x.shape[1] % size:
            raise WrongValue(f"group_size={size} of {self.name!r} is illegal: it must divide the {x.shape[1]} channels")
        return x.reshape(x.shape[0], -1, size, *x.shape[2:]).softmax(2).reshape(x.shape) if size else x.softmax(1)


def _check_numbers(name: str, value: object) -> None:
    """Refuse, by name, what is no number, no list of numbers, and not None."""
    for number in value if isinstance(value, list | tuple) else [value]:
        if number is not None:
            check_number(name, number, low=float("-inf"))


MODES = ("PerLayer", "PerInput")
"""Of ElemWise: one weight and one shift for all inputs, or one for each; what is given tells which."""


def _check_mode(name: str, value: object) -> None:
    if value == "PerChannel":
        raise ImplementationError("mode='PerChannel' of ElemWise is refused: a BatchNorm2d weights and shifts channels")
    check_choice(name, value, MODES)


class ElemWise(Cell):
    """Inputs of one shape, combined value by value.

    Args:
        config: name, operation (a name of OPERATIONS), weights and shifts (one number for each input), activation.
            EuclideanSum is sqrt(sum of (weight x)^2 + shift^2). AbsSum has no shifts, Prod and Max have no weights
            either; where they are given, a warning says so.

    >>> ElemWise(operation="Sum")(torch.ones(1, 2), torch.ones(1, 2))
    tensor([[2., 2.]])
    """

    OPTIONS: ClassVar[Mapping[str, Any]] = {
        "operation": "Sum",
        "mode": "PerLayer",
        "weights": None,
        "shifts": None,
    }
    CHECKS: ClassVar[Mapping[str, Check]] = {
        "operation": partial(check_choice, legal=OPERATIONS),
        "mode": _check_mode,
        **dict.fromkeys(("weights", "shifts"), _check_numbers),
    }

    def __init__(self, **config: Any) -> None:  # noqa: ANN401
        super().__init__(**config)
        operation = self.options["operation"]
        for name in WITHOUT_EFFECT.get(operation, ()):
            if self.options[name] is not None:
                warn_caller(f"{name} of {self.name!r} has no effect: the operation is {operation}")

    def forward(self, *inputs: Tensor) -> Tensor:
        """(batch, ...) of one shape each, unchanged in shape."""
        n_dims = max(x.dim() for x in inputs)
        alike = [x if x.dim() == n_dims else x.reshape(*x.shape, *(1,) * (n_dims - x.dim())) for x in inputs]
        pairs = zip(alike, self._each("weights", 1.0, inputs), self._each("shifts", 0.0, inputs), strict=True)
        result = OPERATIONS[self.options["operation"]](list(pairs))
        return self.activated(result if self.options["back_propagate"] else result.detach())

    def _each(self, name: str, default: float, inputs: Sequence[Tensor]) -> list[float]:
        """One number for each input, from an option that is a number, a list, or missing."""
        given = self.options[name]
        numbers = given if isinstance(given, list | tuple) else [default if given is None else given]
        numbers = list(numbers) * (len(inputs) if len(numbers) == 1 else 1)
        if len(numbers) != len(inputs):
            raise WrongValue(f"{name}={given!r} is illegal: {self.name!r} has {len(inputs)} inputs")
        return numbers


class Activation(Cell):
    """An activation as a cell of its own."""

    def __init__(self, activation: ActivationFunction | None = None, **config: Any) -> None:  # noqa: ANN401
        super().__init__(activation=activation, **config)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Any shape, unchanged."""
        return self.activated(self.joined(inputs))


class Padding(Cell):
    """Zeros around every feature map; negative numbers cut off."""

    def __init__(
        self,
        top_pad: int = 0,
        bot_pad: int = 0,
        left_pad: int = 0,
        right_pad: int = 0,
        **config: Any,  # noqa: ANN401
    ) -> None:
        fixed = {"top_pad": top_pad, "bot_pad": bot_pad, "left_pad": left_pad, "right_pad": right_pad}
        for name, value in fixed.items():
            if isinstance(value, bool) or not isinstance(value, int):
                raise WrongInputType(
                    f"{name}={value!r} is illegal: it must be a whole number, not a {type(value).__name__}"
                )
        super().__init__(fixed=fixed, **config)

    def forward(self, *inputs: Tensor) -> Tensor:
        """(batch, channels, y, x) -> (batch, channels, y + top + bottom, x + left + right)."""
        pads = [self.fixed[name] for name in ("left_pad", "right_pad", "top_pad", "bot_pad")]
        return self.activated(F.pad(self.joined(inputs), pads))


class Reshape(Cell):
    """The same values in other sizes: `dims` in N2D2's order (x, y, channels), -1 once for what is left over."""

    def __init__(self, dims: Sequence[int], **config: Any) -> None:  # noqa: ANN401
        if not isinstance(dims, list | tuple):
            raise WrongInputType(f"dims={dims!r} is illegal: it must be a list of sizes, x first")
        whole = all(isinstance(n, int) and not isinstance(n, bool) for n in dims)
        if not whole or min(dims, default=-1) < -1 or list(dims).count(-1) > 1:
            raise WrongValue(f"dims={dims!r} is illegal: sizes are whole numbers, and -1 once at most")
        super().__init__(fixed={"dims": list(dims)}, **config)

    def forward(self, *inputs: Tensor) -> Tensor:
        """(batch, ...) -> (batch, *dims reversed)."""
        x = self.joined(inputs)
        return self.activated(x.reshape(x.shape[0], *self.fixed["dims"][2::-1]))


class Transpose(Cell):
    """The dimensions in another order: `perm` in N2D2's order (x, y, channels, batch).

    >>> Transpose([1, 0, 2, 3])(torch.zeros(8, 3, 5, 7)).shape
    torch.Size([8, 3, 7, 5])
    """

    def __init__(self, perm: Sequence[int], **config: Any) -> None:  # noqa: ANN401
        if not isinstance(perm, list | tuple):
            raise WrongInputType(f"perm={perm!r} is illegal: it must be a list of axes, not a {type(perm).__name__}")
        if set(perm) != set(range(len(perm))):
            raise WrongValue(f"perm={perm!r} is illegal: it must hold 0 to {len(perm) - 1} once each")
        super().__init__(fixed={"perm": list(perm)}, **config)

    def forward(self, *inputs: Tensor) -> Tensor:
        """(batch, channels, y, x) in the new order."""
        last = len(self.fixed["perm"]) - 1
        order = [last - axis for axis in reversed(self.fixed["perm"])]
        return self.activated(self.joined(inputs).permute(order))


Scaling = refused_class(
    "n2d2.cells.Scaling", "it scales quantized values; ElemWise(weights=[...]) multiplies, a BatchNorm2d each channel"
)
Transformation = refused_class(
    "n2d2.cells.Transformation", "N2D2's does not compute; provider.add_transformation(...) transforms the data"
)
