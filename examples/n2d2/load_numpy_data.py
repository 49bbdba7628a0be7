"""Train on arrays of NumPy, here scikit-learn's 8 x 8 digits; nine weights out of ten are pruned meanwhile.

python examples/n2d2/load_numpy_data.py
"""

import argparse
import math

from sklearn.datasets import load_digits

import n2d2
import prunecell

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--batch_size", type=int, default=32)
parser.add_argument("--threshold", type=float, default=0.9, help="the fraction that is pruned; 0: none")
args = parser.parse_args()

n2d2.global_variables.seed = 1
images, labels = load_digits(return_X_y=True)
images = (images.reshape(-1, 8, 8) / 16).astype("float32")  # floats reach the network as they are

database = n2d2.database.Numpy()
database.load(list(images[:1500]), labels[:1500].tolist())  # a list of [height, width] arrays
database.partition_stimuli(0.8, 0.2, 0.0)  # Learn, Validation, Test
database.load(list(images[1500:]), labels[1500:].tolist(), partition="Test")
database.get_partition_summary()
provider = n2d2.provider.DataProvider(database, [8, 8, 1], batch_size=args.batch_size)

model = n2d2.cells.Sequence(
    [
        n2d2.cells.Fc(8 * 8, 128, activation=n2d2.activation.Rectifier()),
        n2d2.cells.Fc(128, 10, activation=n2d2.activation.Linear()),
    ]
)
softmax = n2d2.cells.Softmax(with_loss=True)
target = n2d2.target.Score(provider)
model.set_solver(n2d2.solver.SGD(learning_rate=0.05, momentum=0.9))
if args.threshold:
    model.quantizer = n2d2.quantizer.PruneCell(
        prune_mode="Gradual", prune_filler="IterNonStruct", threshold=args.threshold, start=0.3, gamma=0.05
    )

for epoch in range(args.epochs):
    provider.set_partition("Learn")
    model.learn()
    for _ in range(math.ceil(database.get_nb_stimuli("Learn") / args.batch_size)):
        x = target(softmax(model(provider.read_random_batch())))
        x.back_propagate()
        x.update()
    provider.set_partition("Validation")
    model.test()
    target.clear_success()
    for first in range(0, database.get_nb_stimuli("Validation"), args.batch_size):
        target(softmax(model(provider.read_batch(first))))
    print(f"epoch {epoch + 1} of {args.epochs}: validation {100 * target.get_average_success():.2f} %")

provider.set_partition("Test")
for first in range(0, database.get_nb_stimuli("Test"), args.batch_size):
    target(softmax(model(provider.read_batch(first))))
print(f"test: {100 * target.get_average_success():.2f} %")
prunecell.save(model, "digits.pcell")
