-- SPDX-License-Identifier: Apache-2.0
std = "lua54"
max_line_length = 120
unused_args = false
ignore = { "212", "21/_.*" }
read_globals = { "tensor", "model", "merge", "align", "by", "grad", "value_and_grad", "vjp", "jvp", "hvp", "compile", "checkpoint", "nn", "data", "train", "eval", "search", "probe", "align", "cache", "yaml", "plot", "recipe", "tarn", "help" }
globals = { "_" }
-- A command hands its arguments on; tests hold long tables of cases; attacks are as odd as they have to be.
files["scripts"] = { globals = { "arg" } }
files["tests"] = { max_line_length = false, ignore = { "3..", "4.." } }
exclude_files = { "tests/sandbox" }
