-- SPDX-License-Identifier: Apache-2.0
std = "lua54"
max_line_length = 120
unused_args = false
read_globals = { "tensor", "model", "merge", "by", "grad", "value_and_grad", "vjp", "jvp", "hvp", "yaml", "tarn", "help" }
