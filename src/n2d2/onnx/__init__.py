"""ONNX files, read by the library onnx alone: what they say as plain data, and their operators in torch.

file             a file to a Graph; `schema`, `tensors`, `simplify` and `shapes` are its steps
graph            the plain data
operators        ONNX's operators in torch; `n2d2.cells.onnx` makes cells of them
"""
