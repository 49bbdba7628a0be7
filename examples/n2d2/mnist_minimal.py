"""The shortest training script: two Fc cells learn MNIST, and nine weights out of ten are pruned meanwhile.

python examples/n2d2/mnist_minimal.py --epochs 8
"""

import argparse
import math

import n2d2

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=8)
parser.add_argument("--batch_size", type=int, default=64)
parser.add_argument("--threshold", type=float, default=0.9, help="the fraction that is pruned; 0: none")
parser.add_argument("--data_path", help="a folder with MNIST's IDX files; by default they are fetched")
args = parser.parse_args()

n2d2.global_variables.seed = 1
database = n2d2.database.MNIST(data_path=args.data_path)
provider = n2d2.provider.DataProvider(database, [28, 28, 1], batch_size=args.batch_size)

fc1 = n2d2.cells.Fc(28 * 28, 100, activation=n2d2.activation.Rectifier())
fc2 = n2d2.cells.Fc(100, 10)
softmax = n2d2.cells.nn.Softmax(with_loss=True)
target = n2d2.target.Score(provider)

for cell in (fc1, fc2):
    cell.solver = n2d2.solver.SGD(learning_rate=0.05, momentum=0.9)
    if args.threshold:
        cell.quantizer = n2d2.quantizer.PruneCell(
            prune_mode="Gradual", prune_filler="IterNonStruct", threshold=args.threshold, start=0.3, gamma=0.15
        )

provider.set_partition("Learn")
for epoch in range(args.epochs):
    for _ in range(math.ceil(database.get_nb_stimuli("Learn") / args.batch_size)):
        x = provider.read_random_batch()
        x = fc1(x)
        x = fc2(x)
        x = softmax(x)
        x = target(x)
        x.back_propagate()
        x.update()
    print(f"epoch {epoch + 1} of {args.epochs}: loss {target.average_loss():.4f}")
    target.clear_success()

provider.set_partition("Test")
fc1.test()
fc2.test()
for first in range(0, database.get_nb_stimuli("Test"), args.batch_size):
    target(softmax(fc2(fc1(provider.read_batch(idx=first)))))
print(f"test: {100 * target.get_average_success():.2f} %")
