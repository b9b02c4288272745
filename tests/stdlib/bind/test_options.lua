-- SPDX-License-Identifier: Apache-2.0
-- Every parameter of every method, given values of every wrong kind: one error that names the method and the
-- parameter, before anything is read.
local check = require "check"

local a = model.new { ["layers.0.w"] = tensor.ones { 2, 2 }, ["layers.1.w"] = tensor.ones { 2, 2 } }

-- As many models as the method takes, and a model for each statistic it needs.
local function operands(row)
  local t = { base = row.base ~= "none" and a or nil }
  for k = 1, row.most or math.max(row.least, 2) do t[k] = a end
  for _, s in ipairs(row.statistics or {}) do
    t[s.name] = a
    if not s.of_base then
      t[s.name] = {}
      for k = 1, #t do t[s.name][k] = a end
    end
  end
  return t
end

local none = { {}, print, a, { a } }
local wrong = {
  number = { "much", true, 0 / 0, 1 / 0, -1 / 0 },
  integer = { "much", true, 0 / 0, 1 / 0, 2.5 },
  boolean = { "yes", 1, 0 },
  choice = { "no such choice", "", 1, true },
}

local count = 0
for _, row in ipairs(merge.methods()) do
  for _, p in ipairs(row.params) do
    local function refused(v)
      local t = operands(row)
      for _, other in ipairs(row.params) do -- what has no default
        if other.default == nil and other.type ~= "choice" then t[other.name] = other.min or 1 end
      end
      t[p.name] = v
      local ok, why = pcall(merge[row.name], t)
      local said = tostring(why)
      check.equal(ok, false, row.name .. ": " .. p.name .. " = " .. tostring(v))
      assert(said:find("merge." .. row.name, 1, true) and said:find(p.name, 1, true) and not said:find "%-nan"
        and not said:find "got nil", row.name .. ": " .. p.name .. " = " .. tostring(v) .. ": " .. said)
      count = count + 1
    end
    for _, v in ipairs(wrong[p.type]) do refused(v) end
    for _, v in ipairs(none) do refused(v) end
    -- a list: one for each model, or none where there is one value for all
    local list = {}
    for k = 1, #operands(row) + (p.per_model and 1 or 0) do list[k] = p.default or p.min or 1 end
    if #list > 0 then refused(list) end
  end
  local t = operands(row)
  t.no_such_option = 1
  check.raises("merge." .. row.name .. ": unknown option 'no_such_option'", merge[row.name], t)
  check.raises("merge." .. row.name .. " takes one table", merge[row.name], operands(row), {})
end
assert(count > 2000, count)

-- ---- lists that are no options, and options that came late ----

check.raises("merge.map takes one table", merge.map, { a, apply = function(t) return t[1] end }, { base = a })
local one = tensor { 1 }
check.raises("also holds 'b': write {\"b\", tensor}", model.new, { { "w", one }, b = one })
check.raises("also holds 'w'", model.new, { w = one, { "b", one } })
check.raises("got a number as name", model.new, { w = one, [2.5] = one })
local net = nn.mlp { 2, 3, 2 }
check.raises("theta is a table; expected a model or nil", align.groups, net, { pin = "fc1" })
check.raises("nn.sequential: 'imput' is no part of the list", nn.sequential, { nn.linear(2, 2), imput = { 2 } })
check.raises("nn.branch: 'jion' is no part of the list", nn.branch, { nn.linear(2, 2), jion = "add" })
local m, d = net:init {}, { x = tensor.ones { 2, 2 } }
for _, f in ipairs { probe.cross_task, probe.disentanglement } do
  check.raises("'bsae' is none of {base = m, a, b, …}", f, net, { base = m, m, m, bsae = m }, { d, d })
end
local figure = plot.line { { 1, 2 } }
check.raises("unknown option 'widht'", figure.text, figure, { widht = 30 })
check.raises("unknown option 'widht'", figure.print, figure, { widht = 30 })
local p = align.random(net, { seed = 1 })
check.raises("alignment:save: unknown option 'overwrit'", p.save, p, "/nowhere/x.safetensors", { overwrit = true })
