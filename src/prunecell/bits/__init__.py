"""Masks of one bit a weight, and the exact selection of the smallest.

mask     which weights live, one bit each
order    scores as exact integers, their keys
select   the smallest of several lists of keys
"""
