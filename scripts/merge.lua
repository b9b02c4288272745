-- SPDX-License-Identifier: Apache-2.0
-- merge CONFIG OUT: merge models as a mergekit configuration says
--
-- Reads mergekit's YAML (its version 0.1.5) for linear, slerp, karcher, model_stock,
-- task_arithmetic, ties, dare_linear, dare_ties and passthrough: models or slices, parameters at
-- every level with gradients and filters, dtype, out_dtype. Model paths start from the working
-- directory. Whatever the configuration gets wrong is said, with its line, before any weight is read.
--
-- Options:
--   --dtype TYPE        dtype of the output: f32, bf16, f16 (instead of the file's out_dtype)
--   --seed N            seed of the random methods (default 0)
--   --shard-size SIZE   largest file of the output, in bytes or as 2G, 500M (default 5 GB)
--   --force             replace a model that OUT holds
--   --allow-nonfinite   write NaN and infinities too
--   --missing WAY       a tensor that some model lacks: error (default), base, zero or drop
--   --on-integer WAY    integer tensors that differ: error (default) or base
--   --strict            refuse what is doubtful in the input files
--   --plan              print what would be read and written, and stop

local command = require "command"
local config, build = require "mergekit.config", require("mergekit.build").build

local function size(text)
  local scale = { [""] = 1, K = 2 ^ 10, M = 2 ^ 20, G = 2 ^ 30, T = 2 ^ 40 }
  local n, unit = text:match "^([%d.]+)%s*(%a?)$"
  local bytes = n and tonumber(n) and scale[unit:upper()] and tonumber(n) * scale[unit:upper()]
  return bytes and bytes >= 1 and math.floor(bytes) or command.misused("--shard-size %s is no size", text)
end

local function read(path)
  local file, why = io.open(path, "rb")
  if not file then error(("cannot open %s"):format(why), 0) end
  local text
  text, why = file:read "a"
  file:close()
  if not text then error(("cannot read %s: %s"):format(path, why), 0) end
  return text
end

local args = command.parse()
local path, out = args[1], args[2]
local save = { overwrite = args.force, allow_nonfinite = args.allow_nonfinite,
  max_shard_size = args.shard_size and size(args.shard_size) or nil }

-- What the library says points at the configuration or names the file; where in this command it
-- came up is no help.
local function plainly(f, ...)
  local ok, r = pcall(f, ...)
  if ok then return r end
  local message = type(r) == "userdata" and r.message .. (r.code ~= "" and " [" .. r.code .. "]" or "")
    or tostring(r):gsub("^scripts/merge%.lua:%d+: ", "")
  error(message, 0)
end

local merged = plainly(function()
  local doc, at = yaml.read(read(path), path)
  local d = config.read(doc, at, path, yaml.null)
  save.dtype = args.dtype or d.out_dtype or d.dtype
  return build(d, { seed = args.seed or 0, strict = args.strict, missing = args.missing,
    on_integer = args.on_integer })
end)

if args.plan then
  print(plainly(merged.plan, merged, { dtype = save.dtype }))
else
  plainly(merged.save, merged, out, save)
end
