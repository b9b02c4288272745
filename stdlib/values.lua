-- SPDX-License-Identifier: Apache-2.0
-- How the prompt shows tensors and models, beyond the text that print gives: a line of statistics, the tree of
-- names. A model's values are not touched.

local LINES, KIDS = 60, 12 -- of a tree; of one of its branches

local function count(n)
  for _, unit in ipairs { { 1e12, "T" }, { 1e9, "B" }, { 1e6, "M" }, { 1e4, "K" } } do
    if n >= unit[1] then return string.format("%.4g %s", n / (unit[2] == "K" and 1e3 or unit[1]), unit[2]) end
  end
  return string.format("%d", n)
end

local function bytes(n)
  for _, unit in ipairs { { 1e12, "TB" }, { 1e9, "GB" }, { 1e6, "MB" }, { 1e3, "kB" } } do
    if n >= unit[1] then return string.format("%.4g %s", n / unit[1], unit[2]) end
  end
  return string.format("%d B", n)
end

local function number(v) return (string.format("%.5g", v):gsub("^%-0$", "0")) end

-- ---- tensors ----

local function statistics(t)
  local n = t:numel()
  if t.dtype == "bool" then return string.format("%d of %d true", t:cast("i64"):sum(), n) end
  local x = t:cast("f64")
  local finite = x:isfinite()
  local kept = math.tointeger(finite:cast("i64"):sum())
  if kept == 0 then return "no value is finite" end
  local function only(v, other) return tensor.where(finite, v, other) end
  local mean = only(x, 0):sum() / kept
  local std = math.sqrt((only(x - mean, 0) ^ 2):sum() / kept)
  return string.format("min %s, max %s, mean %s, std %s%s", number(only(x, math.huge):min()),
    number(only(x, -math.huge):max()), number(mean), number(std),
    kept < n and string.format("; %d of %d not finite", n - kept, n) or "")
end

local function show_tensor(t)
  local text = tostring(t)
  if t.planned or t:numel() < 2 then return text end
  local ok, line = pcall(statistics, t) -- of a dtype that is only stored there is none
  return ok and text .. "\n" .. line or text
end

-- ---- models ----

-- The tree of the names' parts: { name =, kids = list in order, by = kids by name, info = of a leaf }.
local function plant(m)
  local root = { kids = {}, by = {} }
  for _, name in ipairs(m:names()) do
    local at = root
    for part in name:gmatch "[^.]+" do
      local kid = at.by[part]
      if not kid then
        kid = { name = part, kids = {}, by = {} }
        at.by[part] = kid
        at.kids[#at.kids + 1] = kid
      end
      at = kid
    end
    at.info = m:info(name)
  end
  return root
end

-- Counts, and a text by which equal branches are known.
local function measure(node)
  local form = {}
  node.tensors, node.numel, node.bytes = 0, 0, 0
  if node.info then
    node.tensors, node.numel, node.bytes = 1, node.info.numel, node.info.bytes
    form[1] = node.info.dtype .. "[" .. table.concat(node.info.shape, ", ") .. "]"
    node.leaf = form[1]
  end
  for _, kid in ipairs(node.kids) do
    measure(kid)
    node.tensors, node.numel, node.bytes = node.tensors + kid.tensors, node.numel + kid.numel, node.bytes + kid.bytes
    form[#form + 1] = kid.name .. "{" .. kid.form .. "}"
  end
  node.form = table.concat(form, " ")
  return node
end

-- A chain of only children is one name.
local function joined(node)
  local name = node.name
  while #node.kids == 1 and not node.info do
    node = node.kids[1]
    name = name .. "." .. node.name
  end
  return name, node
end

-- Numbered neighbours of one form are a group: "0 … 11".
local function grouped(kids)
  local out = {}
  for _, kid in ipairs(kids) do
    local last = out[#out]
    local n = math.tointeger(tonumber(kid.name))
    if last and n and last.last and n == last.last + 1 and last.node.form == kid.form then
      last.last, last.times = n, last.times + 1
    else
      out[#out + 1] = { node = kid, first = n, last = n, times = 1 }
    end
  end
  return out
end

local function title(group)
  local name, node = joined(group.node)
  if group.times > 1 then name = string.format("%d … %d%s", group.first, group.last, name:sub(#group.node.name + 1)) end
  return name, node
end

local function fits(text, width) return (utf8.len(text) or #text) <= width end

-- "fc1  weight f32[128, 784], bias f32[128]": a branch of leaves on one line, where it fits.
local function in_one_line(node, head, width)
  local parts = {}
  for _, kid in ipairs(node.kids) do
    local name, last = joined(kid)
    if #last.kids > 0 then return nil end
    parts[#parts + 1] = name .. " " .. last.leaf
  end
  local line = head .. "  " .. table.concat(parts, ", ")
  return not node.info and fits(line, width) and line or nil
end

local function grow(node, indent, width, out)
  local groups = grouped(node.kids)
  for k, group in ipairs(groups) do
    if k > KIDS and #groups > KIDS + 1 then
      out[#out + 1] = string.format("%s… %d more", indent, #groups - KIDS)
      return
    end
    local name, at = title(group)
    local head = indent .. name .. (at.leaf and " " .. at.leaf or "")
    local size = string.format(": %s%s, %s, %s", group.times > 1 and group.times .. " × " or "",
      at.tensors == 1 and "1 tensor" or at.tensors .. " tensors", count(at.numel), bytes(at.bytes))
    local times = group.times > 1 and " (" .. group.times .. " ×)" or ""
    if #at.kids == 0 then
      out[#out + 1] = head .. times
    else
      local line = in_one_line(at, head .. times, width)
      out[#out + 1] = line or head .. size
      if not line then grow(at, indent .. "  ", width, out) end
    end
  end
end

local function show_model(m, width)
  local out = { tostring(m) }
  local open, root = pcall(plant, m)
  if not open then return out[1] end
  grow(measure(root), "  ", width, out)
  if #out > LINES then
    local more = #out - LINES
    out = table.move(out, 1, LINES, 1, {})
    out[#out + 1] = string.format("  … %d lines more (m:names() lists all names)", more)
  end
  return table.concat(out, "\n")
end

return { tensor = show_tensor, model = show_model }
