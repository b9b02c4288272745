# The twin of curve.lua, as one writes it in PyTorch: parameters are made of the three points in each step.
import sys
import torch
import torch.nn.functional as F
import formula
from twin import serve

sizes = [int(n) for n in sys.argv[2].split("-")]
steps = int(sys.argv[3])
x = formula.tensor([128, sizes[0]], 1, 0.5)
y = torch.arange(128) % sizes[-1]
MASK = 2**64 - 1


def ends(shift):
    out = []
    for l, (i, o) in enumerate(zip(sizes, sizes[1:])):
        out += [formula.tensor([o, i], (i / 4) ** -0.5, l + 1 + shift), torch.zeros(o)]
    return out


def hash64(seed, text):
    def finish(h):
        h = (h ^ h >> 33) * 0xFF51AFD7ED558CCD & MASK
        h = (h ^ h >> 33) * 0xC4CEB9FE1A85EC53 & MASK
        return h ^ h >> 33

    h = 0xCBF29CE484222325 ^ finish(seed + 0x9E3779B97F4A7C15 & MASK)
    for c in text:
        h = (h ^ c) * 0x100000001B3 & MASK
    return finish(h)


# Where on the curve step i of probe.curve with seed 0 is: a number of Philox4x32-10 (vm/op/kernel/random.h).
def place(i):
    key = hash64(hash64(i * 0xD1B54A32D192ED03 + 0x7A11 & MASK >> 1, b""), bytes(8) + b"\1" + bytes(7))
    c, k = [0, 0, 1, 0], [key & 0xFFFFFFFF, key >> 32]
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [q >> 32 ^ c[1] ^ k[0], q & 0xFFFFFFFF, p >> 32 ^ c[3] ^ k[1], p & 0xFFFFFFFF]
        k = [k[0] + 0x9E3779B9 & 0xFFFFFFFF, k[1] + 0xBB67AE85 & 0xFFFFFFFF]
    return ((c[0] >> 5) * 2**26 + (c[1] >> 6)) / 2**53


a, b = ends(0), ends(10)
places = [place(i + 1) for i in range(steps)]


def step():
    bend = [torch.nn.Parameter((p + q) / 2) for p, q in zip(a, b)]
    optimiser = torch.optim.SGD(bend, lr=0.0005, momentum=0.9)
    for t in places:
        theta = [(1 - t) ** 2 * p + 2 * t * (1 - t) * m + t * t * q for p, m, q in zip(a, bend, b)]
        index = torch.randperm(128)
        h = x[index]
        for l in range(0, len(theta), 2):
            h = F.linear(h, theta[l], theta[l + 1])
            if l + 2 < len(theta):
                h = torch.relu(h)
        loss = F.cross_entropy(h, y[index])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    return loss


serve(step)
