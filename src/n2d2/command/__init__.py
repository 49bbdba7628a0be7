"""What the `n2d2` command does once `n2d2.cli` has read its options.

options -> session (the network, its Pruner, what is shown) -> run (learn, prune, fine-tune, test, export), with
learning and logbook for what happens on the way.
"""
