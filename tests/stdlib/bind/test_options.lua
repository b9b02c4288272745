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
end
assert(count > 2000, count)
