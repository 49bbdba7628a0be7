"""Export: a pruned model, as it is when evaluated, in the forms that other programs read.

subject         what is exported: a model, its example, its tensors
onnx_file       ONNX
sparse_onnx     sparse initializers where they are smaller
program         torch.export
tensors         safetensors; CSR arrays for numpy and scipy
formats         all that a model is written as; export
"""

from prunecell.export.formats import FORMATS, export
from prunecell.export.onnx_file import to_onnx
from prunecell.export.program import to_torch_export
from prunecell.export.tensors import to_csr, to_safetensors

__all__ = ["FORMATS", "export", "to_csr", "to_onnx", "to_safetensors", "to_torch_export"]
