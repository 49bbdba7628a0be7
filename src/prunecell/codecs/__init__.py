"""Tensor <-> encoded parts: everything about bits, nothing about files.

dtypes      the element types of the format, as bits
streams     numbers <-> bytes: raw, deflate, pco
positions   where the weights are: gaps, mask
values      what they are: byte planes, whole numbers, codebook, scaled integers
tensors     one tensor <-> one record and one blob, the cheapest form chosen
modes       what may be lost on the way: exact, fp16, bf16, int8, codebookN
"""
