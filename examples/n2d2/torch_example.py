"""A torch module in a loop of torch's, on MNIST; N2D2's solvers train it and PruneCells prune it.

python examples/n2d2/torch_example.py
"""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import n2d2
import pytorch_to_n2d2
from prunecell.data import mnist

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=4)
parser.add_argument("--batch_size", type=int, default=64)
parser.add_argument("--threshold", type=float, default=0.9, help="the fraction that is pruned; 0: none")
parser.add_argument("--data_path", help="a folder with MNIST's IDX files; by default they are fetched")
args = parser.parse_args()

torch.manual_seed(1)
n2d2.global_variables.seed = 1
data = mnist(args.data_path)
learn = TensorDataset(data.train_images[:, None] / 255, data.train_labels)
test = TensorDataset(data.test_images[:, None] / 255, data.test_labels)

net = nn.Sequential(
    nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
    nn.Sequential(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
    nn.Sequential(nn.Linear(16 * 4 * 4, 120), nn.ReLU(), nn.Linear(120, 10)),
)
net = pytorch_to_n2d2.wrap(net, (args.batch_size, 1, 28, 28))
net.get_block().set_solver(n2d2.solver.SGD(learning_rate=0.01, momentum=0.9))
if args.threshold:
    net.get_block().quantizer = n2d2.quantizer.PruneCell(
        prune_mode="Gradual",
        prune_filler="IterNonStruct",
        threshold=args.threshold,
        start=0.5,
        stepsize=len(learn) // 4,
    )

criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(net.parameters(), lr=0.001)  # it changes nothing: backward() runs N2D2's solvers
for epoch in range(args.epochs):
    net.train()
    for images, labels in DataLoader(learn, args.batch_size, shuffle=True):
        optimizer.zero_grad()
        loss = criterion(net(images), labels)
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch + 1} of {args.epochs}: last loss {loss.item():.4f}")

net.eval()
with torch.no_grad():
    right = sum((net(images).argmax(1) == labels).sum().item() for images, labels in DataLoader(test, 500))
print(f"test: {100 * right / len(test):.2f} %")
net.summary()
