"""Files and folders as the system has them, whatever is in them.

atomic    a file is replaced whole or not at all
claim     one run works in a folder at a time
targets   whether a file may be written, asked before any work
endings   how files are called, and what they must not be called
foreign   what a file is that is not what was wanted
"""
