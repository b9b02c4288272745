-- SPDX-License-Identifier: Apache-2.0
-- merge CONFIG OUT: merge models as a mergekit configuration says
--
-- Reads mergekit's YAML (its version 0.1.5), all of its methods: models or slices, parameters at every
-- level with gradients and filters, dtype, out_dtype, adapters (model+adapter). In a file of several
-- documents those with a name are models of the others, and none of them is written. Model paths start
-- from the working directory. What the configuration gets wrong is said, with its line, before any
-- weight is read.
--
-- Options:
--   --dtype TYPE        dtype of the output: f32, bf16, f16 (instead of the file's out_dtype)
--   --seed N            seed of the random methods (default 0)
--   --shard-size SIZE   largest file of the output, in bytes or as 2G, 500M (default 5 GB)
--   --force             replace a model that OUT holds
--   --allow-nonfinite   write NaN and infinities too
--   --missing WAY       a tensor that some model lacks: error (default), base, zero or drop
--   --on-integer WAY    integer tensors that differ: error (default) or base
--   --truncate-embeddings  cut vocabularies of several sizes to the rows that all models have
--   --strict            refuse what is doubtful in the input files
--   --report FILE       afterwards write what the merge did to every tensor, as JSON; -: print it as a table
--   --plan              print what would be read and written and what makes each tensor, and stop
--   --json              with --plan: the plan as one object

local command = require "command"
local run = require "mergekit.run"

local function size(text)
  local scale = { [""] = 1, K = 2 ^ 10, M = 2 ^ 20, G = 2 ^ 30, T = 2 ^ 40 }
  local n, unit = text:match "^([%d.]+)%s*(%a?)$"
  local bytes = n and tonumber(n) and scale[unit:upper()] and tonumber(n) * scale[unit:upper()]
  return bytes and bytes >= 1 and math.floor(bytes)
    or command.misused("--shard-size %s is no size; expected bytes, or a number with K, M or G", text)
end

local args = command.parse()
if args.json and not args.plan then command.misused("--json goes with --plan") end
local path, out = args[1], args[2]
local save = { overwrite = args.force, allow_nonfinite = args.allow_nonfinite,
  max_shard_size = args.shard_size and size(args.shard_size) or nil, report = args.report == "-" or args.report }

local merged = run.plainly(function()
  local m, dtype, d = run.read(path, args)
  save.dtype, save.files = dtype, d.files
  return m
end)

if args.plan then
  local plan = run.plainly(merged.plan, merged, { dtype = save.dtype })
  print(args.json and require "plan_json"(plan) or plan:show(true))
else
  run.plainly(merged.save, merged, out, save)
end
