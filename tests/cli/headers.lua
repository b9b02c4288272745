-- SPDX-License-Identifier: Apache-2.0
-- Run by test_slow_headers.sh: what `tarn inspect --json` says of a model against the oracles' expect/.
-- usage: tarn headers.lua INSPECTED.json EXPECT.json HEADER.json
local function read(path)
  local file = assert(io.open(path))
  local doc = yaml.read(file:read "a", path) -- JSON is YAML
  file:close()
  return doc
end

local got, want, header = read(arg[1]), read(arg[2]), read(arg[3])
local wrong = 0

local function same(what, x, y)
  if tostring(x) ~= tostring(y) then
    wrong = wrong + 1
    if wrong < 8 then print(want.model, what, "got", x, "expected", y) end
  end
end

-- "a=1 b=2" of {a = 1, b = 2}
local function flat(t)
  local out = {}
  for k, v in pairs(t) do out[#out + 1] = k .. "=" .. tostring(v) end
  table.sort(out)
  return table.concat(out, " ")
end

same("tensors", got.count, want.tensors)
same("listed", #got.tensors, want.tensors)
for _, key in ipairs { "elements", "parameters", "bytes", "largest_bytes", "float_buffers", "layers" } do
  same(key, got[key], want[key])
end
same("integers", got.integers, want.integers.count)
local dtypes = {}
for name, n in pairs(got.dtypes) do dtypes[name:upper()] = n end
same("dtypes", flat(dtypes), flat(want.dtypes))
same("experts", got.experts, want.experts and want.experts.count or 0)
for i, s in ipairs(want.stacks) do
  local t = got.stacks[i] or {}
  same("stack", ("%s %s %s %s"):format(t.name, t.count, t.depth, t.regex), ("%s %s %s %s"):format(s.name, s.count, s.depth, s.regex))
end
if #want.stacks > 0 then same("stacks", #got.stacks, #want.stacks) end
local tied, expected = {}, {}
for _, t in ipairs(got.tied) do tied[t.kept .. " " .. t.other] = t.stored end
for _, t in ipairs(want.tied) do
  for _, other in ipairs(t.not_in_file) do expected[t.kept[1] .. " " .. other] = false end
end
same("tied", flat(tied), flat(expected))

-- Whether ranges such as "1-2,4" hold depth d.
local function within(d, ranges)
  for low, high in ranges:gmatch "(%d+)%-?(%d*)" do
    if d and d >= tonumber(low) and d <= tonumber(high == "" and low or high) then return true end
  end
  return false
end

-- Templates by what is left of a name without its numbers.
local function skeleton(name) return (name:gsub("{%u}", "#"):gsub("%d+", "#")) end
local templates = {}
for template, facts in pairs(want.names) do
  local pattern = "^" .. template:gsub("[%-%.%+%[%]%(%)%$%^%%%?%*]", "%%%0"):gsub("{L}", "(%%d+)"):gsub("{%u}", "%%d+") .. "$"
  local key = skeleton(template)
  templates[key] = templates[key] or {}
  table.insert(templates[key], { pattern = pattern, facts = facts, layered = template:find "{L}" })
end
local first = {} -- depth of layer 0 of each stack
for _, s in ipairs(want.stacks) do first[#first + 1] = { "^" .. s.name:gsub("[%-%.]", "%%%0") .. "%.%d+%.", tonumber((s.depth:match "^%d+")) } end
local transformer = want.stacks[1] and want.model ~= "resnet-50" and want.model ~= "convnext-tiny" and want.model ~= "mamba-130m"
for _, t in ipairs(got.tensors) do
  local found
  for _, candidate in ipairs(templates[skeleton(t.name)] or {}) do
    local layer = t.name:match(candidate.pattern)
    if layer then
      found = true
      local f = candidate.facts
      same(t.name .. " place", t.place, f.place)
      same(t.name .. " dtype", t.dtype:upper(), f.dtype)
      if type(f.shape) == "table" then same(t.name .. " shape", table.concat(t.shape, ","), table.concat(f.shape, ",")) end
      if candidate.layered then
        same(t.name .. " layer", t.layer, layer)
        for _, s in ipairs(first) do
          if t.name:find(s[1]) then same(t.name .. " depth", t.depth, s[2] + tonumber(layer)) end
        end
      elseif f.layers then
        same(t.name .. " depth within " .. f.layers, within(t.depth, f.layers), true)
      else
        same(t.name .. " depth", t.depth, nil)
      end
      if transformer then same(t.name .. " role", t.role, f.role) end
      break
    end
  end
  same(t.name .. " known", found, true)
end
local buffers = {}
for _, name in ipairs(header.buffers) do buffers[name] = true end
for _, t in ipairs(got.tensors) do
  same(t.name .. " buffer", t.buffer == true, buffers[t.name] == true)
end
os.exit(wrong == 0 and 0 or 1)
