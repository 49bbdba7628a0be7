"""LeNet on MNIST, nine weights out of ten pruned while it learns, and then a small file.

python examples/n2d2/lenet.py --epochs 10
"""

import argparse
import math

import n2d2
import prunecell

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--batch_size", type=int, default=128)
parser.add_argument("--dense", action="store_true", help="prune nothing")
parser.add_argument("--data_path", help="a folder with MNIST's IDX files; by default they are fetched")
args = parser.parse_args()

n2d2.global_variables.seed = 1
database = n2d2.database.MNIST(data_path=args.data_path, validation=0.1)
provider = n2d2.provider.DataProvider(database, [32, 32, 1], batch_size=args.batch_size)
provider.add_transformation(n2d2.transform.PadCrop(32, 32))

model = n2d2.models.lenet.LeNet(10)
softmax = n2d2.cells.nn.Softmax(with_loss=True)
target = n2d2.target.Score(provider)
n_learn = database.get_nb_stimuli("Learn")
model.set_solver(
    n2d2.solver.SGD(
        learning_rate=0.05,
        momentum=0.9,
        decay=0.0005,
        learning_rate_policy="StepDecay",
        learning_rate_step_size=n_learn,
        learning_rate_decay=0.75,
    )
)
if not args.dense:  # 90 % of all weights: a cell with few weights keeps more of them
    with_weights = [cell for cell in model if isinstance(cell, n2d2.cells.Conv | n2d2.cells.Fc)]
    for cell, threshold in zip(with_weights, (0.3, 0.7, 0.92, 0.92, 0.6), strict=True):
        cell.quantizer = n2d2.quantizer.PruneCell(
            prune_mode="Gradual", prune_filler="IterNonStruct", threshold=threshold, start=0.3, stepsize=n_learn // 4
        )
print(model)


def success(partition):
    """Measure one partition, in percent."""
    provider.set_partition(partition)
    model.test()
    target.clear_success()
    for first in range(0, database.get_nb_stimuli(partition), args.batch_size):
        target(softmax(model(provider.read_batch(first))))
    return 100 * target.get_average_success()


for epoch in range(args.epochs):
    provider.set_partition("Learn")
    model.learn()
    for _ in range(math.ceil(n_learn / args.batch_size)):
        x = provider.read_random_batch()
        x = model(x)
        x = softmax(x)
        x = target(x)
        x.back_propagate()
        x.update()
    print(f"epoch {epoch + 1} of {args.epochs}: loss {target.loss():.4f}, validation {success('Validation'):.2f} %")

print(f"test: {success('Test'):.2f} %")
target.log_confusion_matrix("lenet")
target.log_success("lenet")
model.summary(input_dims=[32, 32, 1])
prunecell.save(model, "lenet.pcell")
