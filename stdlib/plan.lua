-- SPDX-License-Identifier: Apache-2.0
-- The face of a plan: how it prints. A plan is a table of what the program found from headers:
-- passes, reads, writes and peak in bytes, nodes (operands before users), inputs, tensors, json.

local amount, show = require "amount", require "show"
local bytes, plural = amount.bytes, amount.plural

local function number(v)
  return string.format("%.6g", v)
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

-- The value that v has for slot i, "weight[low] = 0.5 (by.depth)" and the like.
local function value_at(v, i)
  if v.each then return v.each[i] end
  if v.text then return v.text end
  if v.number then return v.number end
  return v.flag
end

local function show_at(v, i)
  local x = value_at(v, i)
  return string.format("%s%s = %s (%s)", v.name, v.model and string.format("[%s]", v.model) or "",
    type(x) == "number" and number(x) or tostring(x), v.origin or "given")
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

-- Cost of a tensor: "2 passes in memory; read 1.5 kB, write 512 B, 2.1 MB in memory"; of one that comes with
-- another one: "with fc1.u; write 512 B".
local function cost(t)
  local parts = { "read " .. (t.more and "at least " or "") .. bytes(t.reads), "write " .. bytes(t.writes) }
  if t.with then
    return "with " .. t.with .. "; " .. parts[2]
  end
  if t.workspace > 65536 then
    parts[3] = bytes(t.workspace) .. " of workspace"
  end
  return plural(t.passes, "pass") .. (t.held and " in memory" or "") .. "; " .. table.concat(parts, ", ")
end

local function tensor_line(t)
  return string.format("    %s %s[%s] <- %s; %s", t.name, t.dtype, table.concat(t.shape, ", "), sources(t),
    t.copied and "copied: " .. t.copied or cost(t))
end

-- What makes t: "#4 ties, weight[low] = 0.5 (by.depth)", with the values that differ between tensors;
-- the others stand with the nodes.
local function made_by(plan, t)
  local out = {}
  for _, step in ipairs(t.steps) do
    local node = plan.nodes[step.node]
    out[#out + 1] = string.format("#%d %s%s", step.node, node.title, step.note and " (" .. step.note .. ")" or "")
    for _, v in ipairs(node.values) do
      if v.each then
        out[#out + 1] = show_at(v, step.slot)
      end
    end
  end
  return #out > 0 and table.concat(out, ", ") or "nothing: copied"
end

-- Tensors under what makes them, in the order of the file.
local function tensor_lines(plan, names, out)
  local groups, order = {}, {}
  for _, t in ipairs(plan.tensors) do
    if not names or names[t.name] then
      local key = made_by(plan, t)
      if not groups[key] then
        groups[key] = {}
        order[#order + 1] = key
      end
      table.insert(groups[key], tensor_line(t))
    end
  end
  for _, key in ipairs(order) do
    out[#out + 1] = "  by " .. key .. ":"
    table.move(groups[key], 1, #groups[key], #out + 1, out)
  end
end

local function seconds(s)
  return s < 0.0995 and string.format("%.0f ms", 1000 * s) or s < 90 and string.format("%.2g s", s)
    or s < 5400 and string.format("%.0f min", s / 60) or string.format("%.1f h", s / 3600)
end

local function time_line(t)
  local parts = {}
  for _, what in ipairs { "reading", "running", "writing", "hashing" } do
    parts[#parts + 1] = t[what] >= 0.0005 and string.format("%s %s", what, seconds(t[what])) or nil
  end
  return string.format("  about %s: %s (inputs %s/s as they lie, passes %s/s, output %s/s%s)", seconds(t.seconds),
    table.concat(parts, ", "), bytes(t.read_rate), bytes(t.run_rate), bytes(t.write_rate),
    t.sampled < 0.5 and string.format("; %.0f %% of the passes scaled from smaller tensors", 100 * (1 - t.sampled))
      or "")
end

local Plan = {}
Plan.__index = Plan
Plan.__name = "plan"

local function explain(plan, t)
  local row, method = { parameters = {} }, nil
  for _, key in ipairs { "name", "dtype", "shape", "from", "copied", "passes", "reads", "writes", "workspace", "held",
    "more", "with" } do
    row[key] = t[key]
  end
  for _, step in ipairs(t.steps) do
    local node = plan.nodes[step.node]
    method = node.tier and node.title or method
    row.note = step.note or row.note
    for _, v in ipairs(node.values) do
      if v.name ~= "reversed" then
        table.insert(row.parameters, { node = step.node, name = v.name, model = v.model,
          value = value_at(v, step.slot), origin = v.origin or "given" })
      end
    end
  end
  local last = t.steps[#t.steps]
  row.method = method or (last and plan.nodes[last.node].title)
  return row
end

-- Every tensor with its method and all parameters: a list of {name, dtype, shape, method, note,
-- parameters, from, copied, passes, reads, writes, workspace, held, more, with}; a parameter is {node, name,
-- model, value, origin}, node the position in plan.nodes. with: the tensor it is computed with, which reads for
-- both. method is the last method that made the
-- tensor, else the operation that did; nil for a copy. note: what it does otherwise with this tensor.
-- names: a set, only those.
function Plan:explain(names)
  local out = {}
  for _, t in ipairs(self.tensors) do
    if not names or names[t.name] then out[#out + 1] = explain(self, t) end
  end
  return out
end

-- Adds the estimate of time; path: where the output would go. Returns the plan.
function Plan:measure(path)
  self.time = self.model:plan { dtype = self.dtype, time = path or self.path or true }.time
  return self
end

-- The plan as text; `full` adds a line for every tensor (of the set `names`, if there is one).
function Plan:show(full, names)
  local out = {}
  out[#out + 1] = string.format("plan%s: %s, %s, read %s%s, write %s, peak memory %s",
    self.path and " of " .. self.path or "", plural(#self.tensors, "tensor"), plural(self.passes, "pass"),
    self.more and "at least " or "", bytes(self.reads), bytes(self.writes), bytes(self.peak))
  if self.more then
    out[#out + 1] = "  an exact selection sweeps again where many values are equal: passes and bytes read may be more"
  end
  if self.time then
    out[#out + 1] = time_line(self.time)
  end
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
    tensor_lines(self, names, out)
  end
  for i, line in ipairs(out) do out[i] = show(line) end -- names come from files
  return table.concat(out, "\n")
end

function Plan:__tostring()
  return self:show(false)
end

return function(raw)
  return setmetatable(raw, Plan)
end
