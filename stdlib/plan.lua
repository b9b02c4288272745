-- SPDX-License-Identifier: Apache-2.0
-- The face of a plan: how it prints. A plan is a table of what the program found from headers:
-- passes, reads, writes and peak in bytes, nodes (operands before users), inputs, tensors, json.

local function bytes(n)
  local units = { "B", "kB", "MB", "GB", "TB", "PB" }
  local k = 1
  while n >= 1000 and k < #units do
    n, k = n / 1000, k + 1
  end
  return k == 1 and string.format("%d B", n) or string.format("%.1f %s", n, units[k])
end

local function number(v)
  return string.format("%.6g", v)
end

local function plural(n, word)
  return string.format("%d %s%s", n, word, n == 1 and "" or (word:sub(-1) == "s" and "es" or "s"))
end

-- One value that serves every tensor: "density = 0.2 (default)".
local function show_value(v)
  local what = v.text or (v.number and number(v.number)) or tostring(v.flag)
  if v.each then
    local low, high = math.huge, -math.huge
    for _, x in ipairs(v.each) do
      low, high = math.min(low, x), math.max(high, x)
    end
    what = low == high and number(low) or string.format("%s … %s by tensor", number(low), number(high))
  end
  local whose = v.model and string.format("[%s]", v.model) or ""
  return string.format("%s%s = %s (%s)", v.name, whose, what, v.origin or "given")
end

local function node_lines(plan, out)
  for k, node in ipairs(plan.nodes) do
    if #node.operands > 0 then
      local operands = {}
      for i, at in ipairs(node.operands) do
        operands[i] = plan.nodes[at].label or "#" .. at
      end
      out[#out + 1] = string.format("  #%-3d %s(%s)%s", k, node.title, table.concat(operands, ", "),
        node.dropped > 0 and string.format(", %s dropped by policy", plural(node.dropped, "name")) or "")
      for _, v in ipairs(node.values) do
        if v.name ~= "reversed" then
          out[#out + 1] = "         " .. show_value(v)
        end
      end
    end
  end
end

local function input_lines(plan, out)
  for _, input in ipairs(plan.inputs) do
    local unused = #input.unused
    out[#out + 1] = string.format("  %-12s %s, %s%s", input.label, input.path or "in memory",
      plural(input.tensors, "tensor"),
      unused > 0 and string.format("; %d not used: %s%s", unused, input.unused[1], unused > 1 and " …" or "")
        or "")
  end
end

-- Values that differ between tensors, one line a tensor.
local function each_of(plan)
  local found = {}
  for _, node in ipairs(plan.nodes) do
    for _, v in ipairs(node.values) do
      if v.each then
        for i, name in ipairs(node.names) do
          found[name] = found[name] or {}
          table.insert(found[name], string.format("%s%s = %s", v.name,
            v.model and string.format("[%s]", v.model) or "", number(v.each[i])))
        end
      end
    end
  end
  return found
end

-- "base, a" where the names are the tensor's own, "a: other.name" elsewhere.
local function sources(t)
  local out = {}
  for i, from in ipairs(t.from) do
    local label, name = from:match "^(.-): (.*)$"
    out[i] = name == t.name and label or from
  end
  return table.concat(out, ", ")
end

local function tensor_lines(plan, out)
  local each = each_of(plan)
  for _, t in ipairs(plan.tensors) do
    local notes = {}
    if t.copied then
      notes[#notes + 1] = "copied: " .. t.copied
    else
      notes[#notes + 1] = plural(t.passes, "pass") .. (t.held and " in memory" or "")
    end
    for _, v in ipairs(each[t.name] or {}) do
      notes[#notes + 1] = v
    end
    out[#out + 1] = string.format("  %s %s[%s] <- %s; %s", t.name, t.dtype, table.concat(t.shape, ", "),
      sources(t), table.concat(notes, "; "))
  end
end

local Plan = {}
Plan.__index = Plan
Plan.__name = "plan"

-- The plan as text; `full` adds a line for every tensor.
function Plan:show(full)
  local out = {}
  out[#out + 1] = string.format("plan%s: %s, %s, read %s, write %s, peak memory %s",
    self.path and " of " .. self.path or "", plural(#self.tensors, "tensor"), plural(self.passes, "pass"),
    bytes(self.reads), bytes(self.writes), bytes(self.peak))
  if self.barriers > 0 then
    out[#out + 1] = string.format("  %s over the whole model first", plural(self.barriers, "reduction"))
  end
  if self.unhashed_files > 0 then
    out[#out + 1] = string.format("  hash %s of %s not known to the digest store", bytes(self.unhashed_bytes),
      plural(self.unhashed_files, "file"))
  end
  if math.abs(self.mass - 1) > 1e-6 then
    out[#out + 1] = string.format("  mass %s: this is %s, not a model", number(self.mass),
      self.mass == 0 and "a vector" or "an unbalanced sum")
  end
  input_lines(self, out)
  node_lines(self, out)
  if full then
    tensor_lines(self, out)
  end
  return table.concat(out, "\n")
end

function Plan:__tostring()
  return self:show(false)
end

return function(raw)
  return setmetatable(raw, Plan)
end
