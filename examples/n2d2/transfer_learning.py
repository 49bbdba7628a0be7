"""Transfer learning: what a network learned on MNIST helps it to read scikit-learn's digits after 100 examples.

python examples/n2d2/transfer_learning.py --onnx digits_trained.onnx   # which load_onnx.py writes
"""

import argparse
import math

import n2d2
from prunecell.data import digits

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--onnx", default="digits_trained.onnx", help="a network for 28 x 28 images")
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--batch_size", type=int, default=20)
parser.add_argument("--threshold", type=float, default=0.5, help="the fraction of the head that is pruned; 0: none")
args = parser.parse_args()

n2d2.global_variables.seed = 1
data = digits()
database = n2d2.database.Numpy()
database.load(list(data.train_images[:100].numpy()), data.train_labels[:100].tolist(), "Learn")
database.load(list(data.test_images.numpy()), data.test_labels.tolist(), "Test")
provider = n2d2.provider.DataProvider(database, [28, 28, 1], batch_size=args.batch_size)
provider.add_transformation(n2d2.transform.Rescale(20, 20))  # as large as MNIST's digits are
provider.add_transformation(n2d2.transform.PadCrop(28, 28, border_type="ConstantBorder", border_value=[0]))

extractor = n2d2.cells.DeepNetCell.load_from_ONNX(provider, args.onnx)
last = [cell for cell in extractor if isinstance(cell, n2d2.cells.Fc)][-1]
extractor.remove(last.get_name())
extractor.test()

head = n2d2.cells.Fc(last.get_nb_channels(), 10, name="head")
head.set_solver(n2d2.solver.SGD(learning_rate=0.01, momentum=0.9))
if args.threshold:
    head.quantizer = n2d2.quantizer.PruneCell(
        prune_mode="Gradual", prune_filler="IterNonStruct", threshold=args.threshold, start=0.1
    )
softmax = n2d2.cells.Softmax(with_loss=True)
target = n2d2.target.Score(provider)

for epoch in range(args.epochs):
    provider.set_partition("Learn")
    head.learn()
    for _ in range(math.ceil(database.get_nb_stimuli("Learn") / args.batch_size)):
        x = extractor(provider.read_random_batch())
        x.detach()  # no gradient goes further back, and no update reaches the extractor
        x = target(softmax(head(x)))
        x.back_propagate()
        x.update()
    print(f"epoch {epoch + 1} of {args.epochs}: loss {target.loss():.4f}")

provider.set_partition("Test")
head.test()
for first in range(0, database.get_nb_stimuli("Test"), args.batch_size):
    target(softmax(head(extractor(provider.read_batch(first)))))
print(f"test: {100 * target.get_average_success():.2f} %")
target.log_confusion_matrix("transfer")
