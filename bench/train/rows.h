// SPDX-License-Identifier: Apache-2.0
// name, script (.lua and .py), its two arguments, steps in a repetition, ratio to PyTorch that is wanted
ROW("mlp", "mlp", "784-512-512-10", "128", 10, 0.9)
ROW("small mlp", "mlp", "64-16-10", "32", 200, 0.2)
