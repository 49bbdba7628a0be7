"""Nodes of an ONNX file as ONNX's own tables read them: attributes with their defaults, numbers of inputs."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import onnx
import onnx.defs
import onnx.helper
import torch

from n2d2.error_handler import WrongValue, n2d2_errors, refuse_unknown
from n2d2.global_variables import dtype
from n2d2.ini.errors import hint
from n2d2.onnx.graph import Node
from n2d2.onnx.host import Host, to_host
from n2d2.onnx.operators import OPERATORS, REFUSED
from n2d2.onnx.tensors import to_dense, to_torch
from prunecell.checks import check_count

OLDEST, NEWEST = 7, onnx.defs.onnx_opset_version()
"""The versions of ONNX's operators that are read: since 7 sizes are broadcast as numpy does it."""

LAST_OF = {"Upsample": 9}
"""Operators that newer versions do not have any more -> the last that has; files use them all the same."""

_AT_LEAST: Mapping[str, int] = {
    **dict.fromkeys(("strides", "dilations", "kernel_shape", "output_shape"), 1),
    **dict.fromkeys(("group", "blocksize", "size", "num_groups", "num_outputs", "p"), 1),
    **dict.fromkeys(("output_padding", "pads"), 0),
}
_BELOW_ZERO = {("Pad", "pads"), ("LpNormalization", "p")}
"""Attributes that mean something else there; their operators look after them."""


def is_made_of_others(proto: onnx.NodeProto, opset: int) -> bool:
    """Whether an operator that is not in the table here is one that ONNX tells by others."""
    if proto.op_type in OPERATORS or proto.op_type in REFUSED or proto.domain not in ("", "ai.onnx"):
        return False
    try:
        schema = onnx.defs.get_schema(proto.op_type, opset, "")
    except onnx.defs.SchemaError:
        return False
    told: Any = schema  # its stubs do not have these two
    return bool(told.has_function or told.has_context_dependent_function)


def read_node(proto: onnx.NodeProto, opset: int) -> Node:
    """A node, with all attributes of its operator.

    Args:
        proto: the node of the file.
        opset: the version of the operators that the file uses.

    Raises:
        WrongValue: the operator is unknown, or does not have such attributes, inputs or outputs.
    """
    op, name = proto.op_type, next((one for one in proto.output if one), "")
    if not name:
        raise WrongValue(f"a node {op!r} has no output")
    told = f"{op} {name!r}"
    if op in REFUSED:
        raise WrongValue(f"{told} is refused: {REFUSED[op]}")
    known = [*OPERATORS, "Constant"]
    if op not in known or proto.domain not in ("", "ai.onnx"):
        where = f" of {proto.domain!r}" if proto.domain not in ("", "ai.onnx") else ""
        raise WrongValue(f"operator {op!r}{where} of {name!r} is unknown{hint(op, known)}")
    try:
        schema = onnx.defs.get_schema(op, min(opset, LAST_OF.get(op, opset)), "")
    except onnx.defs.SchemaError:
        raise WrongValue(f"{told} is illegal: version {opset} of ONNX's operators does not have it") from None
    for what, names, low, high in (
        ("inputs", proto.input, schema.min_input, schema.max_input),
        ("outputs", proto.output, schema.min_output, schema.max_output),
    ):
        if not low <= len(names) <= high or any(not one for one in names[:low]):
            legal = f"{low}" if low == high else f"{low} to {high}" if high < 2**20 else f"{low} or more"
            raise WrongValue(f"{told} has {len(names)} {what}: it must have {legal}")
    try:
        attributes = _attributes(proto, schema)
    except WrongValue as error:
        raise WrongValue(f"{told}: {error}") from None
    return Node(op, schema.since_version, tuple(proto.input), tuple(proto.output), attributes)


def _attributes(proto: onnx.NodeProto, schema: onnx.defs.OpSchema) -> dict[str, Any]:
    given = {one.name: one for one in proto.attribute}
    with n2d2_errors():
        refuse_unknown(proto.op_type, given, schema.attributes)
    read = {}
    for name, declared in schema.attributes.items():
        if name in given:
            kind = int(declared.type)  # type: ignore[call-overload] # an enumeration of C++
            read[name] = _value(given[name], kind)
            _check(proto.op_type, name, read[name])
        elif declared.required:
            raise WrongValue(f"{name} is missing")
        else:
            default = declared.default_value
            read[name] = _plain(onnx.helper.get_attribute_value(default)) if default.name else None
    if isinstance(read.get("value"), torch.Tensor) and proto.op_type != "Constant":
        read["value"] = _single(read["value"])
    return read


def _single(tensor: torch.Tensor) -> Host:
    """What a ConstantOfShape repeats."""
    if tensor.numel() != 1:
        raise WrongValue(f"value is illegal: it must be one number, not {tensor.numel()}")
    return to_host(tensor.reshape(()))


def _value(attribute: onnx.AttributeProto, kind: int) -> Any:  # noqa: ANN401 - attributes are of any type
    if attribute.ref_attr_name or attribute.type != kind:
        wanted, came = onnx.AttributeProto.AttributeType.Name(kind), attribute.type
        raise WrongValue(f"{attribute.name} is illegal: it must be of ONNX's type {wanted}, not {came}")
    return _plain(onnx.helper.get_attribute_value(attribute))


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Python's values of protobuf's."""
    if isinstance(value, onnx.TensorProto):
        return to_torch(value)
    if isinstance(value, onnx.SparseTensorProto):
        return to_dense(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, int | float):
        return value
    return [_plain(one) for one in value]


def _check(op: str, name: str, value: Any) -> None:  # noqa: ANN401
    if name in _AT_LEAST and (op, name) not in _BELOW_ZERO:
        with n2d2_errors():
            for one in value if isinstance(value, list) else [value]:
                check_count(name, one, low=_AT_LEAST[name])


CONSTANTS: Mapping[str, Callable[[Any], torch.Tensor]] = {
    "value": lambda value: value,
    "sparse_value": lambda value: value,
    "value_int": partial(torch.tensor, dtype=torch.int64),
    "value_ints": partial(torch.tensor, dtype=torch.int64),
    "value_float": lambda value: torch.tensor(value, dtype=dtype()),
    "value_floats": lambda value: torch.tensor(value, dtype=dtype()),
}
"""Attributes of a Constant -> the tensor that it is."""


def constant(node: Node) -> torch.Tensor:
    """The tensor of a node Constant."""
    for name, make in CONSTANTS.items():
        if node[name] is not None:
            return make(node[name])
    raise WrongValue(f"{node} is refused: it must hold numbers; legal: {', '.join(CONSTANTS)}")
