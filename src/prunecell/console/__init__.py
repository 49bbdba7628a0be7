"""What the commands print.

terminal   lines for a terminal, whatever a name holds, and how a command ends
options    arguments as the options of a command
frames     an error in a user's file, as its author wants to see it
"""
