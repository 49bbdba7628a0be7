"""A training script as N2D2's users write it: LeNet on MNIST, nine weights out of ten pruned while it learns.

python examples/n2d2_lenet.py --epochs 8
"""

import argparse
import math

import n2d2

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=8)
parser.add_argument("--batch-size", type=int, default=128)
parser.add_argument("--data-path", help="a folder with MNIST's IDX files; by default they are fetched")
arguments = parser.parse_args()

n2d2.global_variables.seed = 1

database = n2d2.database.MNIST(data_path=arguments.data_path, validation=0.1)
provider = n2d2.provider.DataProvider(database, [32, 32, 1], batch_size=arguments.batch_size)
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

# The first convolution has 150 weights of 61,000: it may keep most of them.
thresholds = dict(zip(model.get_cells(), (0.3, 0, 0.7, 0, 0.92, 0.92, 0, 0.6), strict=True))
for cell in model:
    if isinstance(cell, n2d2.cells.Conv | n2d2.cells.Fc):
        cell.quantizer = n2d2.quantizer.PruneCell(
            prune_mode="Gradual",
            prune_filler="IterNonStruct",
            threshold=thresholds[cell.get_name()],
            start=0.3,
            gamma=0.05,
            stepsize=n_learn // 3,
        )
print(model)


def success(partition):
    """Measure one partition, in percent."""
    provider.set_partition(partition)
    model.test()
    target.clear_success()
    for first in range(0, database.get_nb_stimuli(partition), arguments.batch_size):
        target(softmax(model(provider.read_batch(first))))
    return 100 * target.get_average_success()


for epoch in range(arguments.epochs):
    provider.set_partition("Learn")
    model.learn()
    for batch in range(math.ceil(n_learn / arguments.batch_size)):
        x = provider.read_random_batch()
        x = model(x)
        x = softmax(x)
        x = target(x)
        x.back_propagate()
        x.update()
        if batch % 50 == 0:
            print(f"epoch {epoch + 1}, batch {batch}: loss {target.loss():.4f}", end="\r")
    print(f"epoch {epoch + 1}: validation {success('Validation'):.2f} %            ")

print(f"test: {success('Test'):.2f} %")
model.summary(input_dims=[32, 32, 1])
target.log_confusion_matrix("lenet_confusion_matrix")
target.log_success("lenet_success")
