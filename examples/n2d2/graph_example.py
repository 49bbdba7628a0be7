"""Cells, the graph that they make of a tensor, and its picture.

python examples/n2d2/graph_example.py
"""

import n2d2
from n2d2.activation import Linear, Rectifier
from n2d2.cells import Conv, Dropout, Fc, Pool2d, Sequence
from n2d2.global_variables import Verbosity

n2d2.global_variables.seed = 1
fc1 = Fc(28 * 28, 50, activation=Rectifier(), name="fc1")
fc2 = Fc(50, 10, name="fc2")

for verbosity in (Verbosity.short, Verbosity.detailed, Verbosity.graph_only):
    n2d2.global_variables.verbosity = verbosity
    print(f"{verbosity}:\n{fc1}\n{fc2}")

x = n2d2.Tensor(dims=[1, 28, 28], value=0.5)
x = fc2(fc1(x))
print(f"after a call each cell knows what it took:\n{fc1}\n{fc2}")
x.draw_associated_graph("two_cells")

extractor = Sequence(
    [
        Conv(1, 6, kernel_dims=[5, 5]),
        Pool2d(pool_dims=[2, 2], stride_dims=[2, 2], pooling="Max"),
        Conv(6, 16, kernel_dims=[5, 5]),
        Pool2d(pool_dims=[2, 2], stride_dims=[2, 2], pooling="Max"),
        Conv(16, 120, kernel_dims=[5, 5]),
    ],
    name="extractor",
)
classifier = Sequence(
    [
        Fc(120, 84, activation=Rectifier()),
        Dropout(dropout=0.5),
        Fc(84, 10, activation=Linear(), name="last_fully"),
    ],
    name="classifier",
)
model = Sequence([extractor, classifier], name="lenet")
output = model(n2d2.Tensor([1, 1, 32, 32], value=0.5))
print(model)
output.draw_associated_graph("lenet")

last = model["last_fully"]  # at any depth
last.quantizer = n2d2.quantizer.PruneCell(prune_mode="Static", prune_filler="IterNonStruct", threshold=0.5)
print(f"{last.get_name()} keeps {last.quantizer.get_pruned_masks().mean():.0%} of its weights")
print(f"and gives {last.get_outputs()}")
model[0].export_free_parameters("extractor_parameters")
