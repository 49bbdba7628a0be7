"""Train and prune the network of an ONNX file on MNIST, and write it as an ONNX file again.

python examples/n2d2/make_onnx.py . && python examples/n2d2/load_onnx.py --onnx digits.onnx
"""

import argparse

import torch

import n2d2
from prunecell.export import export

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--onnx", default="digits.onnx")
parser.add_argument("--epochs", type=int, default=6)
parser.add_argument("--batch_size", type=int, default=64)
parser.add_argument("--threshold", type=float, default=0.9, help="the fraction that is pruned; 0: none")
parser.add_argument("--data_path", help="a folder with MNIST's IDX files; by default they are fetched")
args = parser.parse_args()

n2d2.global_variables.seed = 1
database = n2d2.database.MNIST(data_path=args.data_path, validation=0.1)
database.get_partition_summary()
provider = n2d2.provider.DataProvider(database, [28, 28, 1], batch_size=args.batch_size)

network = n2d2.cells.DeepNetCell.load_from_ONNX(provider, args.onnx)  # it ends with an Fc
softmax = n2d2.cells.Softmax(with_loss=True, name="softmax")
model = n2d2.cells.Sequence([network, softmax]).to_deepnet_cell(provider)
model.set_solver(n2d2.solver.SGD(learning_rate=0.02, momentum=0.9))
if args.threshold:
    model.quantizer = n2d2.quantizer.PruneCell(
        prune_mode="Gradual", prune_filler="IterNonStruct", threshold=args.threshold, start=0.5, gamma=0.2
    )
print(model)

model.fit(learn_epoch=args.epochs, valid_metric="Sensitivity")
model.run_test()
model.log_confusion_matrix("onnx")
model.summary()
model.remove("softmax")  # with_loss: it is of the learning
export(model, "digits_trained.onnx", example=torch.zeros(1, 1, 28, 28))
