-- SPDX-License-Identifier: Apache-2.0
-- From the path of a mergekit configuration to the merge, for the commands merge and convert.

local config, build = require "mergekit.config", require("mergekit.build").build

local run = {}

local function text_of(path)
  local file, why = io.open(path, "rb")
  if not file then error(("cannot open %s"):format(why), 0) end
  local text
  text, why = file:read "a"
  file:close()
  if not text then error(("cannot read %s: %s"):format(path, why), 0) end
  return text
end

-- What the library says points at the configuration or names the file; where in a command it came up
-- is no help.
function run.plainly(f, ...)
  local ok, r = pcall(f, ...)
  if ok then return r end
  local message = type(r) == "userdata" and r.message .. (r.code ~= "" and " [" .. r.code .. "]" or "")
    or tostring(r):gsub("^scripts/%a+%.lua:%d+: ", "")
  error(message, 0)
end

-- read(path, arguments of the command) -> model, dtype of the output, description
function run.read(path, args)
  local doc, at = yaml.read(text_of(path), path)
  local d = config.read(doc, at, path, yaml.null)
  local merged = build(d, { seed = args.seed or 0, strict = args.strict, missing = args.missing,
    on_integer = args.on_integer })
  return merged, args.dtype or d.out_dtype or d.dtype, d
end

return run
