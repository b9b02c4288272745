# The twin of epoch.lua. The images are floats in memory before the clock starts; batches are gathered by index,
# which is faster than a DataLoader.
import gzip
import sys
import torch
import formula
from twin import serve

sizes = [int(n) for n in sys.argv[2].split("-")]
batch = int(sys.argv[3])
folder = "/usr/share/datasets/fashion-mnist/train-"


def read(name, skip):
    with gzip.open(folder + name) as f:
        return torch.frombuffer(bytearray(f.read()[skip:]), dtype=torch.uint8)


images = read("images-idx3-ubyte.gz", 16).reshape(-1, 784).float() / 255
labels = read("labels-idx1-ubyte.gz", 8).long()
layers = []
for k, (i, o) in enumerate(zip(sizes, sizes[1:])):
    layers += [("fc%d" % (k + 1), torch.nn.Linear(i, o)), ("act%d" % (k + 1), torch.nn.ReLU())]
net = torch.nn.Sequential()
for name, layer in layers[:-1]:
    net.add_module(name, layer)


def step():
    formula.fill(net)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.0001, momentum=0.9)
    total = torch.zeros(())
    for index in torch.randperm(len(labels)).split(batch):
        optimiser.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(net(images[index]), labels[index])
        loss.backward()
        optimiser.step()
        total += loss.detach() * len(index)
    return total / len(labels)


serve(step)
