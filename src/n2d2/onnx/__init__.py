"""ONNX files, read by the library onnx alone: what they say as plain data, and their operators in torch.

file                    a file to a Graph, in steps:
schema, tensors         nodes and tensors as ONNX reads them
simplify, shapes        without what need not be computed; sizes
batch                   batches of any size
graph                   the plain data
host, steps             sizes as Python's numbers, computed anew for each input
arithmetic              operators on these
operators               ONNX's operators in torch; `n2d2.cells.onnx` makes cells of them:
elementwise, layers     of each element by itself; convolutions, pools, products, norms
windows, resize         where windows begin and end; values between elements
making, rearranging     new elements; the same in other places
reductions, dtypes      one of many; types of numbers
"""
