# The twin of lanczos.lua, as one writes it in PyTorch: the gradient's graph is kept for all products.
import sys
import torch
import torch.nn.functional as F
import formula
from twin import serve

sizes = [int(n) for n in sys.argv[2].split("-")]
n = int(sys.argv[3])
x = formula.tensor([n, sizes[0]], 1, 0.5)
y = torch.arange(n) % sizes[-1]
shapes, parts = [], []
for l, (i, o) in enumerate(zip(sizes, sizes[1:])):
    parts += [formula.tensor([o, i], (i / 4) ** -0.5, l + 1).reshape(-1), torch.zeros(o)]
    shapes += [(o, i), (o,)]
theta = torch.cat(parts)


def loss(v):
    at, h = 0, x
    for l in range(0, len(shapes), 2):
        w, b = shapes[l], shapes[l + 1]
        m = v[at:at + w[0] * w[1]].view(w)
        at += w[0] * w[1]
        h = F.linear(h, m, v[at:at + b[0]])
        at += b[0]
        if l + 2 < len(shapes):
            h = torch.relu(h)
    return F.cross_entropy(h, y)


def step(steps=40):
    v = theta.clone().requires_grad_(True)
    g = torch.autograd.grad(loss(v), v, create_graph=True)[0]
    basis = torch.zeros(steps, theta.numel())
    t = torch.zeros(steps, steps, dtype=torch.float64)
    torch.manual_seed(0)
    q = torch.randint(0, 2, theta.shape).float() * 2 - 1
    q = q / q.norm()
    for j in range(steps):
        basis[j] = q
        w = torch.autograd.grad(g, v, q, retain_graph=True)[0]
        t[j, j] = w @ q
        for _ in range(2):
            w = w - basis[:j + 1].T @ (basis[:j + 1] @ w)
        b = w.norm()
        if j + 1 < steps:
            t[j, j + 1] = t[j + 1, j] = b
        q = w / b
    return torch.linalg.eigvalsh(t)[-10:].sum()


serve(step)
