"""Masks of one bit a weight, and the exact selection of the smallest: `mask`, `order`, `select`."""
