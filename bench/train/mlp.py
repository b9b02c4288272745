# The twin of mlp.lua, as one writes it in PyTorch.
import sys
import torch
import formula
from twin import serve

sizes = [int(n) for n in sys.argv[2].split("-")]
batch = int(sys.argv[3])
layers = []
for l, (i, o) in enumerate(zip(sizes, sizes[1:])):
    linear = torch.nn.Linear(i, o)
    with torch.no_grad():
        linear.weight.copy_(formula.tensor([o, i], (i / 4) ** -0.5, l + 1))
        linear.bias.zero_()
    layers += [linear, torch.nn.ReLU()]
net = torch.nn.Sequential(*layers[:-1])
optimiser = torch.optim.SGD(net.parameters(), lr=0.0002, momentum=0.9)
x = formula.tensor([batch, sizes[0]], 1, 0.5)
labels = torch.arange(batch) % sizes[-1]


def step():
    optimiser.zero_grad(set_to_none=True)
    loss = torch.nn.functional.cross_entropy(net(x), labels)
    loss.backward()
    optimiser.step()
    return loss


serve(step)
