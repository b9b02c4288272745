// SPDX-License-Identifier: Apache-2.0
// name, script (.lua and .py), its two arguments, steps in a repetition, ratio to PyTorch that is wanted
ROW("mlp", "mlp", "784-512-512-10", "128", 10, 0.9)
ROW("small mlp", "mlp", "64-16-10", "32", 200, 0.2)
ROW("resnet8", "network", "resnet", "64", 3, 1.1)
ROW("gpt", "network", "gpt", "8", 2, 1.1)
ROW("epoch", "epoch", "784-512-512-10", "128", 1, 1.0)
ROW("record 1000", "record", "1000", "", 20, 1.0)
ROW("top 10", "lanczos", "784-64-32-10", "10000", 1, 1.0)
ROW("curve", "curve", "784-64-32-10", "100", 1, 1.0)
// of tarn alone: name, script, its first argument, that of what it is compared with, the second argument …
PAIR("hvp, kept", "curvature", "kept", "gradient", "512", 3, 2.2)
PAIR("hvp, in chunks", "curvature", "again", "gradient", "128", 3, 3.0)
