# SPDX-License-Identifier: Apache-2.0
# Weight matching of a multilayer perceptron as one would write it with NumPy and SciPy, in f64: the other half of
# bench/align/weights.lua. Usage: python weights_reference.py A.safetensors B.safetensors STARTS. Prints wall seconds,
# processor seconds, the best objective and the mean number of sweeps.
import json
import sys
import time

import numpy as np
from scipy.optimize import linear_sum_assignment


def load(path):
    raw = open(path, "rb").read()
    n = int.from_bytes(raw[:8], "little")
    head = json.loads(raw[8:8 + n])
    out = {}
    for name, t in head.items():
        if name != "__metadata__":
            begin, end = t["data_offsets"]
            out[name] = np.frombuffer(raw[8 + n + begin:8 + n + end], np.float32).reshape(t["shape"]).astype(np.float64)
    return out


def match(a, b, layers, rng, random):
    size = [a["fc%d.weight" % k].shape[0] for k in range(1, layers)]
    p = [rng.permutation(n) if random else np.arange(n) for n in size]
    sweeps = 0
    for _ in range(100):
        moved = False
        sweeps += 1
        for k in rng.permutation(layers - 1):
            w, v, bias = "fc%d.weight" % (k + 1), "fc%d.weight" % (k + 2), "fc%d.bias" % (k + 1)
            s = a[w] @ (b[w][:, p[k - 1]] if k > 0 else b[w]).T
            s += np.outer(a[bias], b[bias])
            s += a[v].T @ (b[v][p[k + 1]] if k + 1 < layers - 1 else b[v])
            new = linear_sum_assignment(s, maximize=True)[1]
            rows = np.arange(len(new))
            moved = moved or s[rows, new].sum() > s[rows, p[k]].sum() + 1e-12
            p[k] = new
        if not moved:
            break
    value = 0.0
    for k in range(layers):
        w, bias = b["fc%d.weight" % (k + 1)], b["fc%d.bias" % (k + 1)]
        if k > 0:
            w = w[:, p[k - 1]]
        if k < layers - 1:
            w, bias = w[p[k]], bias[p[k]]
        value += (a["fc%d.weight" % (k + 1)] * w).sum() + (a["fc%d.bias" % (k + 1)] * bias).sum()
    return value, sweeps


a, b, starts = load(sys.argv[1]), load(sys.argv[2]), int(sys.argv[3])
layers = sum(1 for name in a if name.endswith(".weight"))
begin, used = time.perf_counter(), time.process_time()
runs = [match(a, b, layers, np.random.default_rng([9, r]), r > 0) for r in range(starts)]
print("%.3f %.3f %.9g %.1f" % (time.perf_counter() - begin, time.process_time() - used, max(r[0] for r in runs),
                               sum(r[1] for r in runs) / starts))
