"""PyTorch networks with N2D2's solvers and PruneCells, and N2D2's networks in PyTorch's loops.

pytorch_interface   wrap, Block
network             a torch module as a network of N2D2's
shown               cells that show its layers
"""

from pytorch_to_n2d2.pytorch_interface import Block, wrap

__all__ = ["Block", "wrap"]
