"""N2D2's exports of code, refused by name."""

from n2d2.refusal import Refused

_INSTEAD = (
    "no code is generated here; prunecell.save(model, 'net.pcell') writes the pruned network, prunecell.export writes"
    " it as ONNX, and the command n2d2 has -export"
)

export_c = Refused(_INSTEAD, "n2d2.export.export_c")
export_cpp = Refused(_INSTEAD, "n2d2.export.export_cpp")
export_tensor_rt = Refused(_INSTEAD, "n2d2.export.export_tensor_rt")
export_cpp_stm32 = Refused(_INSTEAD, "n2d2.export.export_cpp_stm32")
list_exportable_cell = Refused(_INSTEAD, "n2d2.export.list_exportable_cell")
