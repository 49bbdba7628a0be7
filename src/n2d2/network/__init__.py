"""An INI document to what it describes.

keys, parameters     how a class's parameters are spelt as keys, and read
refused              what N2D2 knows and is refused here, or has no effect
parts, connections   what sections of several types share; the Mapping keys
layers, sizes        a section to a cell; whether its kernel fits
rate                 [prunecell.Rate]
default_plan         [prunecell.Plan]
environment          [database], [sp] and transformations to a provider
imported             Type=ONNX
graph                all cells, in the order of their Input
targets              whose output is measured, and how
network              all of it; `n2d2.cells.DeepNetCell` is assembled of it, `n2d2.experiment` trains it
"""
