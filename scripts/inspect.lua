-- SPDX-License-Identifier: Apache-2.0
-- inspect MODEL…: tensors, shapes, dtypes, layers and metadata of checkpoints
--
-- Reads headers and config.json only, unless --stats asks for numbers. MODEL is a .safetensors file or
-- a folder. A file that is not a valid checkpoint is refused with its verdict in brackets.
--
-- Options:
--   --names REGEX     only tensors in whose name the regular expression is found
--   --stats           read the data too: minimum, maximum, mean and 2-norm of every tensor
--   --strict          links that leave the folder, and whatever else deserves a warning, are errors
--   --json            one object a model, for programs
local json, show = require "json", require "show"
local bytes = require("amount").bytes
local args = require("command").parse()

local function numbers(m, name)
  local t = m:tensor(name)
  if t:numel() == 0 or not t.dtype:find "^b?f%d" or t.dtype:find "^f[46]" then -- those cannot be computed with
    return nil
  end
  t = t:to "f64"
  local v = tensor.stack({ t:min(), t:max(), t:mean(), (t * t):sum() }, 1):load():totable()
  return { min = v[1], max = v[2], mean = v[3], norm = math.sqrt(v[4]) }
end

local function sorted_keys(t)
  local keys = {}
  for key in pairs(t) do
    keys[#keys + 1] = key
  end
  table.sort(keys)
  return keys
end

local function range(stack)
  return string.format("%d-%d", stack.first, stack.last)
end

local function tensor_json(info, stats)
  local out = { { "name", info.name }, { "dtype", info.dtype }, { "shape", json.list(info.shape) },
    { "bytes", info.bytes }, { "place", info.place }, { "layer", info.layer }, { "depth", info.depth },
    { "role", info.role }, { "buffer", info.buffer or nil } }
  for _, key in ipairs { "min", "max", "mean", "norm" } do
    out[#out + 1] = stats and { key, stats[key] } or nil
  end
  local kept = {}
  for _, pair in ipairs(out) do
    if pair[2] ~= nil then
      kept[#kept + 1] = pair
    end
  end
  return json.encode(json.object(kept))
end

local function print_json(m, path, names)
  local s, structure = m:summary(), m:structure()
  local stacks, tied, dtypes, metadata = {}, {}, {}, {}
  for i, stack in ipairs(structure.stacks) do
    stacks[i] = json.object { { "name", stack.name }, { "regex", stack.regex or "" }, { "count", stack.count },
      { "depth", range(stack) } }
  end
  for i, tie in ipairs(structure.tied) do
    tied[i] = json.object { { "kept", tie.kept }, { "other", tie.other }, { "stored", tie.stored } }
  end
  for _, d in ipairs(s.dtypes) do
    dtypes[#dtypes + 1] = { d.dtype, d.tensors }
  end
  for i, key in ipairs(sorted_keys(m:metadata())) do
    metadata[i] = { key, m:metadata()[key] }
  end
  local whole = json.encode(json.object { { "path", path }, { "files", json.list(m:files()) },
    { "type", structure.type or "" }, { "count", s.tensors }, { "elements", s.elements },
    { "parameters", s.parameters }, { "bytes", s.bytes }, { "largest_bytes", s.largest_bytes },
    { "dtypes", json.object(dtypes) }, { "layers", s.layers }, { "depths", structure.depths },
    { "stacks", json.list(stacks) }, { "tied", json.list(tied) }, { "integers", s.integers },
    { "float_buffers", s.float_buffers }, { "experts", s.experts }, { "expert_layers", s.expert_layers },
    { "metadata", json.object(metadata) } })
  io.write(whole:sub(1, -2), ',"tensors":[') -- one by one: there may be a million
  for i, name in ipairs(names) do
    io.write(i > 1 and "," or "", tensor_json(m:info(name), args.stats and numbers(m, name)))
  end
  io.write("]}\n")
end

local function print_text(m, path, names)
  local s, structure = m:summary(), m:structure()
  print(string.format("%s: %d tensors, %d parameters, %s, %s in %d file%s", show(path), s.tensors, s.parameters,
    m:dtype(), bytes(s.bytes), #m:files(), #m:files() == 1 and "" or "s"))
  if structure.type then
    print("  type " .. show(structure.type))
  end
  for _, stack in ipairs(structure.stacks) do
    local name = stack.name and " " .. show(stack.name) or ""
    print(string.format("  layers%s: %d, depth %s", name, stack.count, range(stack)))
  end
  if s.experts > 0 then
    print(string.format("  experts %d in %d layers", s.experts, s.expert_layers))
  end
  for _, tie in ipairs(structure.tied) do
    print(string.format("  tied %s = %s%s", show(tie.other), show(tie.kept), tie.stored and " (stored too)" or ""))
  end
  local metadata = m:metadata()
  for _, key in ipairs(sorted_keys(metadata)) do
    print(string.format("  metadata %s = %s", show(key), show(metadata[key], 100)))
  end
  for _, name in ipairs(names) do
    local i = m:info(name)
    local line = string.format("  %s %s[%s] %s%s", show(name), i.dtype, table.concat(i.shape, ", "),
      i.layer and "layer " .. i.layer or i.place, i.role and " " .. i.role or "")
    local v = args.stats and numbers(m, name)
    print(v and string.format("%s  min %.6g max %.6g mean %.6g norm %.6g", line, v.min, v.max, v.mean, v.norm)
      or line)
  end
end

for _, path in ipairs(args) do
  local m = model.open(path, { strict = args.strict })
  local names = m:names(args.names)
  if args.json then
    print_json(m, path, names)
  else
    print_text(m, path, names)
  end
end
