"""Tensor <-> encoded parts: everything about bits, nothing about files.

dtypes      the element types of the format, as words of bits
streams     numbers <-> bytes, piece by piece: raw, deflate
pco         the same by the library pcodec
coders      the table of coders, and which one is best
positions   where the kept words of a tensor are: gaps, mask
words       words made of their bytes, and put in their places
values      what they are: byte planes, whole numbers, codebook
records     what a file says about an encoded tensor, checked
encode      tensor -> record and blob, in the smallest form
decode      record and blob -> tensor, or its kept words stretch by stretch
kmeans      few shared values in place of many
modes       what may be lost before encoding: exact, fp16, bf16, int8, codebookN
"""
