"""All operators of ONNX that are known here, those that are refused, and how a node is computed.

elementwise, rearranging, making, reductions, layers, resize    operators on tensors, in torch
arithmetic                                                      operators on shapes, in Python's numbers
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from n2d2.error_handler import WrongValue
from n2d2.global_variables import dtype
from n2d2.onnx.arithmetic import HOST, OF_SHAPES, on_host
from n2d2.onnx.elementwise import ELEMENTWISE, Operation
from n2d2.onnx.graph import Node
from n2d2.onnx.host import Host, NotOnHostError, WithoutValuesError, to_tensor
from n2d2.onnx.layers import LAYERS
from n2d2.onnx.making import MAKING, OTHERS
from n2d2.onnx.rearranging import REARRANGING
from n2d2.onnx.reductions import REDUCTIONS
from n2d2.onnx.resize import RESIZING
from prunecell.errors import quoted, some

Value = Tensor | Host
OPERATORS: Mapping[str, Operation] = {
    **ELEMENTWISE,
    **REARRANGING,
    **OTHERS,
    **MAKING,
    **REDUCTIONS,
    **LAYERS,
    **RESIZING,
    **OF_SHAPES,
}
"""Operator -> what computes it."""

_QUANTIZED = "quantization is another subject: export the network in floating point"
_FLOW = "a network is computed the same way for every input here: export it without branches and loops"
_RECURRENT = "recurrent cells are not read: there are Conv, Fc and what stands between them"
REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        ("DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"), _QUANTIZED
    ),
    **dict.fromkeys(("ConvInteger", "MatMulInteger"), _QUANTIZED),
    **dict.fromkeys(("If", "Loop", "Scan"), _FLOW),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _RECURRENT),
}
"""Operators that are known and not computed, and what to do."""

_AXES = dict.fromkeys((op for op in REDUCTIONS if op.startswith("Reduce")), (1,))
STATIC: Mapping[str, Sequence[int]] = {
    **_AXES,
    "Clip": (1, 2),
    "ConstantOfShape": (0,),
    "CumSum": (1,),
    "Dropout": (1, 2),
    "Expand": (1,),
    "OneHot": (1,),
    "Pad": (1, 2, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
}
"""The inputs of an operator that are sizes, axes and the like: numbers of the network, no data."""


def compute(node: Node, values: Sequence[Value | None], device: torch.device | None = None) -> tuple[Value, ...]:
    """What a node gives.

    Args:
        node: whose operator is in OPERATORS.
        values: its inputs; None for those that are not given.
        device: where tensors are made if no input is one.

    Raises:
        WrongValue: a size that is computed does not fit 64 bits.
        WithoutValuesError: numbers that it needs are of a tensor without values ("meta").
    """
    if node.op in OF_SHAPES:
        return (OF_SHAPES[node.op](node, values[0]),)
    numbers = [value for value in values if isinstance(value, Host)]
    if node.op in HOST and len(numbers) == len(values):
        try:
            return (on_host(node, numbers),)
        except NotOnHostError:
            pass
    tensors = [value for value in values if isinstance(value, Tensor)]
    device = tensors[0].device if tensors else device
    kind = next((one.dtype for one in tensors if one.is_floating_point()), dtype())
    static = STATIC.get(node.op, ())
    given = [
        to_tensor(value, device, kind) if isinstance(value, Host) and place not in static else value
        for place, value in enumerate(values)
    ]
    try:
        made: Any = MAKING[node.op](node, *given, device) if node.op in MAKING else OPERATORS[node.op](node, *given)
    except WithoutValuesError:
        needed = dict.fromkeys(node.inputs[i] for i, value in enumerate(values) if i in static and _is_meta(value))
        raise WithoutValuesError(
            f'{node} needs the numbers of {some(map(quoted, needed))}: tensors without values ("meta") have none'
        ) from None
    return made if isinstance(made, tuple) else (made,)


def _is_meta(value: Value | None) -> bool:
    return isinstance(value, Tensor) and value.is_meta


def compute_checked(
    node: Node, values: Sequence[Value | None], device: torch.device | None = None
) -> tuple[Value, ...]:
    """As `compute`, and what goes wrong is told with the node.

    Raises:
        WrongValue: the inputs do not fit the operator.
        WithoutValuesError: what it gives hangs on numbers that tensors without values ("meta") do not have.
    """
    try:
        return compute(node, values, device)
    except NotImplementedError as error:  # so torch says that a meta tensor has not what it asks for
        raise WithoutValuesError(f"{node}: {error}") from None
    except WithoutValuesError:
        raise
    except WrongValue as error:
        raise WrongValue(f"{node}: {error}") from None
    except (RuntimeError, ValueError, IndexError, TypeError, KeyError, ArithmeticError) as error:
        sizes = [" x ".join(map(str, value.shape)) or "1 number" for value in values if value is not None]
        told = str(error).partition("\n")[0]
        raise WrongValue(f"{node} does not fit its inputs of {' and '.join(sizes) or 'nothing'}: {told}") from None
