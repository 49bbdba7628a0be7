"""Pruning that really makes a PyTorch model smaller: on disk, in memory, and in time on a CPU."""
