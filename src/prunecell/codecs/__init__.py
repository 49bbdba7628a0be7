"""Tensor <-> record and blob: everything about bits, nothing about files.

A tensor is seen as words. The kept words, those that are not zero, are written as streams: where they are (positions)
and what they are (values). The streams, one after the other, are the blob; the record says what they are.

dtypes      the element types of the format, as words of bits
streams     numbers <-> bytes, some at a time: raw, deflate
zstandard   the same by Zstandard
pco         the same by the library pcodec
coders      the table of coders, and which one is best
positions   the table of the forms of positions: gaps, mask
values      the table of the forms of values: byte planes, whole numbers, codebook
contexts    whole numbers under contexts <-> bytes
contexts_twin   the same in plain Python
kept        which words are kept: bits of a mask, gaps
words       words split into their bytes, joined from their bytes, and scattered to their positions
records     what a file says about an encoded tensor, checked
narrowing   floats in narrower types
steps       the steps of floats that are integers times them
integers    whole numbers found in a tensor
encode_integers    whole numbers -> record and blob
encode      tensor -> record and blob, in the smallest forms
decode      record and blob -> tensor, or its kept words chunk by chunk
kmeans      few shared values in place of many
modes       the table of value modes, what may be lost before encoding: exact, fp16, bf16, int8, codebookN
"""
