-- SPDX-License-Identifier: Apache-2.0
-- A network as a table: its parts, the shapes that go through them, parameters, operations. Shapes come from the
-- operations themselves: the network is recorded, and nothing of the recording is computed, so that a network of any
-- size can be looked at.
local net = require "nn.net"
local layer = require "nn.layer"

local function grouped(n)
  local text = ("%d"):format(n)
  repeat
    local before = text
    text = text:gsub("^(%d+)(%d%d%d)", "%1,%2")
  until text == before
  return text
end

local function short(n)
  for _, unit in ipairs { { 1e12, "T" }, { 1e9, "G" }, { 1e6, "M" }, { 1e3, "k" } } do
    if n >= unit[1] then return ("%.3g %s"):format(n / unit[1], unit[2]) end
  end
  return ("%d"):format(n)
end

-- path -> {shape =, cost =}, in an order of calls; nil and the reason where the network does not take such an input.
local function traced(root, input)
  local theta, seen = {}, {}
  for _, t in ipairs(net.structure(root).tensors) do
    theta[t.name] = tensor.zeros({ 1 }):reshape(#t.shape == 0 and { 1 } or (function()
      local ones = {}
      for i = 1, #t.shape do ones[i] = 1 end
      return ones
    end)()):expand(t.shape)
  end
  local x = root.tokens and tensor.full(input, 0, { dtype = "i64" }) or tensor.zeros(input)
  local ok, err = pcall(jvp, function(p)
    local given = { x = p.x or x }
    net.run(root, p.theta, given, { watch = function(n, path, into, out)
      local one = seen[path] or { cost = 0 }
      seen[path] = one
      one.shape, one.cost = out.shape, one.cost + (n.cost and n.cost(n, into, out) or 0)
    end })
    return 0
  end, { theta = theta, x = not root.tokens and x or nil }, {})
  if ok then return seen end
  local why = tostring(err)
  if why:find "out of memory" or why:find "not enough memory" then error(err, 0) end -- says nothing about the input
  return nil, err
end

-- Own and total counts of every part, in order.
local function counted(root)
  local counts = {}
  net.walk(root, function(_, path, at)
    counts[path] = counts[path] or 0
    for _, t in ipairs(net.structure(root).tensors) do
      if not t.buffer and t.path == path and t.name:sub(1, #at) == at then
        counts[path] = counts[path] + layer.count(t.shape)
      end
    end
  end)
  return counts
end

-- { {name, kind, shape, parameters, flops, level}, … } for the parts that do something.
local function table_of(root, input)
  local seen, why
  if input then seen, why = traced(root, input) end
  local counts, list = counted(root), {}
  local function visit(n, path, name, level)
    local row = { name = name, path = path, kind = n.kind, note = n.note, level = level, parameters = counts[path],
      shape = seen and seen[path] and seen[path].shape, flops = seen and seen[path] and seen[path].cost or 0 }
    if level >= 0 then list[#list + 1] = row end
    for _, c in ipairs(n.children) do
      local one = visit(c.net, path == "" and c.name or path .. "." .. c.name, c.name, level + 1)
      row.parameters, row.flops = row.parameters + one.parameters, row.flops + one.flops
    end
    return row
  end
  local whole = visit(root, "", root.kind, #root.children == 0 and 0 or -1)
  whole.depth = root.depth
  return list, whole, seen, why
end

local function pad(text, width, right)
  local space = (" "):rep(width - utf8.len(text))
  return right and space .. text or text .. space
end

-- Cells under one another; from column `first` on to the right.
local function lines(rows, first)
  local widths, out = {}, {}
  for _, row in ipairs(rows) do
    for k, cell in ipairs(row) do widths[k] = math.max(widths[k] or 0, utf8.len(cell)) end
  end
  for i, row in ipairs(rows) do
    local cells = {}
    for k, cell in ipairs(row) do cells[k] = pad(cell, widths[k], k >= first) end
    out[i] = (table.concat(cells, "  "):gsub("%s+$", ""))
  end
  return out
end

-- The text. levels: how deep parts of parts are shown.
local function text(root, o)
  local input = o.input or root.input
  if o.input ~= nil then layer.sizes("net:summary", "input", o.input) end
  if o.batch ~= nil then layer.whole("net:summary", "batch", o.batch) end
  if o.levels ~= nil then layer.number("net:summary", "levels", o.levels) end
  if input then input = { o.batch or 1, table.unpack(input) } end
  local list, whole, seen, why = table_of(root, input)
  if why and o.input then net.fail("net:summary: %s", tostring(why)) end
  local rows = { { "part", "layer", "parameters" } }
  if seen then rows[1] = { "part", "layer", "output", "parameters", "FLOPs" } end
  for _, row in ipairs(list) do
    if row.level < (o.levels or math.huge) then
      local cells = { ("  "):rep(row.level) .. row.name, row.kind .. (row.note and " " .. row.note or "") }
      if seen then cells[3] = row.shape and net.shape_text(row.shape) or "" end
      cells[#cells + 1] = row.parameters > 0 and grouped(row.parameters) or ""
      if seen then cells[#cells + 1] = row.flops > 0 and short(row.flops) or "" end
      rows[#rows + 1] = cells
    end
  end
  local out = lines(rows, seen and 4 or 3)
  table.insert(out, 1, ("%s: %s parameters, %d layer%s%s"):format(root.kind, grouped(whole.parameters), whole.depth,
    whole.depth == 1 and "" or "s",
    seen and (", %s FLOPs for an input of %s"):format(short(whole.flops), net.shape_text(input)) or ""))
  return table.concat(out, "\n")
end

return { text = text, table = table_of, traced = traced }
