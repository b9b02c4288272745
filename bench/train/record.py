# As many operations on one number in PyTorch, which records for autograd while it computes.
import sys
import torch
from twin import serve

x = torch.ones(1, requires_grad=True)


def step():
    y = x
    for _ in range(int(sys.argv[2])):
        y = y * 0.5
    return torch.ones(())


serve(step)
