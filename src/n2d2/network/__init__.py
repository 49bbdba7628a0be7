"""An INI document to a network of cells; `n2d2.deepnet` is the door.

keys, parameters     how a class's parameters are spelt as keys; what is refused or has no effect
parts, connections   what sections of several types share; the Mapping keys
layers               a section to a cell
environment          [database], [sp] and transformations to a provider
imported             Type=ONNX
graph                all cells, in the order of their Input
"""
