-- SPDX-License-Identifier: Apache-2.0
-- convert CONFIG: a mergekit configuration as a script of tarn, on standard output
--
-- The script merges what `tarn merge CONFIG OUT` merges and writes the same bytes; `tarn merge.lua OUT`
-- runs it. Every parameter stands in it with the value that mergekit 0.1.5 gives it: gradients as
-- by.depth, filters as by.name. The models are opened to check the configuration against them, but no
-- weight is read.
--
-- Options:
--   --dtype TYPE        dtype of the output: f32, bf16, f16 (instead of the file's out_dtype)
--   --seed N            seed of the random methods (default 0)
--   --truncate-embeddings  cut vocabularies of several sizes to the rows that all models have
local args = require("command").parse()
local run = require "mergekit.run"

io.write(run.plainly(function()
  local merged, dtype, d = run.read(args[1], args)
  return require "mergekit.script"(d, merged, dtype, args[1])
end))
