"""PyTorch networks with N2D2's solvers and PruneCells, and N2D2's networks in PyTorch's loops."""

from pytorch_to_n2d2.pytorch_interface import Block, wrap

__all__ = ["Block", "wrap"]
