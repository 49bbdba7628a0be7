"""What the `n2d2` command does once `n2d2.cli` has read its options.

options   what it can be asked for
session   the network, its Pruner, what is shown
run       learn, prune, fine-tune, test, export
logbook   what is told and kept of a learning
folder    the working folder
room      how much will be written
export    `-export`
"""
