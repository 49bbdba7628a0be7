"""An INI file that is trained, for `prunecell run` and for the command `n2d2`.

experiment   the network, its plan, its data, all under one seed
planning     the default plan, as [prunecell.Plan] asks
fitting      training under a progress bar, with Ctrl-C between two steps
storing      the small file, read back bit for bit
integers     integers under the price of their bits, as [prunecell.Rate] asks
run          what `prunecell run` does
result       what it found, and the closing page
"""
