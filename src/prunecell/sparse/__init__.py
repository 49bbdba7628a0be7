"""The sparse runtime: layers that stay small in memory and are fast on a CPU."""
