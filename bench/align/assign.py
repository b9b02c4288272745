# SPDX-License-Identifier: Apache-2.0
# SciPy's half of bench_align: for each line "FILE n maximise" the matrix of f64 in FILE is solved; the answer is
# "processor seconds, value".
import sys
import time
import numpy as np
from scipy.optimize import linear_sum_assignment

print("ready", flush=True)
for line in sys.stdin:
    path, n, maximise = line.rsplit(" ", 2)
    cost = np.fromfile(path, dtype=np.float64).reshape(int(n), int(n))
    begin = time.process_time()
    row, col = linear_sum_assignment(cost, maximize=maximise.strip() == "1")
    print("%.9f %.17g" % (time.process_time() - begin, cost[row, col].sum()), flush=True)
