"""What a network costs and where it errs: its parameters and multiplications by cell, its losses, its confusions.

python examples/n2d2/performance_analysis.py
"""

import argparse

import n2d2
from n2d2.activation import Linear, Rectifier
from n2d2.cells.nn import Conv, Dropout, Fc, Pool2d, Softmax
from n2d2.filler import Xavier
from n2d2.solver import SGD

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--batch_size", type=int, default=64)
parser.add_argument("--threshold", type=float, default=0.9, help="the fraction that is pruned; 0: none")
parser.add_argument("--data_path", help="a folder with MNIST's IDX files; by default they are fetched")
args = parser.parse_args()

n2d2.global_variables.seed = 1
database = n2d2.database.MNIST(data_path=args.data_path, validation=0.1)
provider = n2d2.provider.DataProvider(database, [29, 29, 1], batch_size=args.batch_size)
provider.add_transformation(n2d2.transform.PadCrop(29, 29))

solver = n2d2.ConfigSection(learning_rate=0.01, momentum=0.9, decay=0.0005)
conv = n2d2.ConfigSection(activation=Rectifier(), weights_filler=Xavier(), no_bias=True, weights_solver=SGD(**solver))
fc = n2d2.ConfigSection(weights_filler=Xavier(), no_bias=True, weights_solver=SGD(**solver))
model = n2d2.cells.Sequence(
    [
        Conv(1, 16, [4, 4], **conv),
        Pool2d([2, 2], stride_dims=[2, 2], pooling="Max"),
        Conv(16, 24, [5, 5], **conv),
        Pool2d([3, 3], stride_dims=[3, 3], pooling="Max"),
        Fc(24 * 3 * 3, 100, activation=Rectifier(), **fc),
        Dropout(),
        Fc(100, 10, activation=Linear(), **fc),
        Softmax(with_loss=True),
    ]
)
if args.threshold:
    model.quantizer = n2d2.quantizer.PruneCell(
        prune_mode="Gradual", prune_filler="IterNonStruct", threshold=args.threshold, start=0.5, gamma=0.2
    )
target = n2d2.target.Score(provider)

for epoch in range(args.epochs):
    provider.set_partition("Learn")
    model.learn()
    provider.set_reading_randomly(True)
    for stimuli in provider:
        loss = target(model(stimuli))
        loss.back_propagate()
        loss.update()
    print(f"epoch {epoch + 1} of {args.epochs}: {provider.batch_number()} batches, last loss {loss[0]:.4f}")

model.test()
provider.set_reading_randomly(False)
for partition in ("Validation", "Test"):
    provider.set_partition(partition)
    for stimuli in provider:
        target(model(stimuli))
    print(f"{partition}: {100 * target.get_average_success():.2f} %, F1 {target.get_average_score('F1Score'):.4f}")

target.log_stats("performance/stats")  # the table of the cells, with the weights that are kept
target.log_confusion_matrix("performance/confusion")
target.log_success("performance/loss")
model.summary(input_dims=[29, 29, 1])
