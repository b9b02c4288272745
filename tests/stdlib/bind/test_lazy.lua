-- SPDX-License-Identifier: Apache-2.0
-- Parts of modules that are compiled when they are first asked for: by name, by pairs, from a coroutine, and
-- after a script has taken the module's name for something else.
local check = require "check"

local found = coroutine.wrap(function() return model.moe, by.name end)
local moe, by_name = found()
assert(type(moe) == "function" and type(by_name) == "function")
local seen = {}
for name in pairs(merge) do seen[name] = true end
assert(seen.swa and seen.linear)
check.raises("did you mean merge.lawa?", function() return merge.lawaa end)
check.raises("read-only", function() local module = by; module.mine = 1 end) -- luacheck: ignore
do
  local schedule = by.depth { 1, 0 }
  _G.by = nil
  local m = model.new { ["layers.0.w"] = tensor { 2 }, ["layers.1.w"] = tensor { 3 } }
  check.tensor((schedule * m)["layers.1.w"], { 0.0 })
end
