-- SPDX-License-Identifier: Apache-2.0
-- Globals of the language that a script puts its own values in the place of: the script sees those, and what it
-- calls is not broken by them.
local check = dofile "tests/stdlib/bind/check.lua"
local folder <close> = dofile "tests/stdlib/bind/folder.lua"()
local figure, base, recipe_run = plot.line { { 1, 2 }, { 1, 2 } }, model.open "examples/data/base.safetensors", recipe.run
local text, shown, plan = tostring(figure), tostring(base), base:plan().json
local dump, tostring, rawget, program = require "text_file", tostring, rawget, folder.tarn
local script = folder "r.lua"
do
  local f <close> = io.open(script, "w")
  f:write 'return recipe { name = "r", inputs = { a = {} }, build = function(m) return m.a end }'
end

local kept = { _G = true, tarn = true, print = true, warn = true, arg = true }
local before = {}
for name, v in pairs(_G) do before[name] = v end
for name in before.pairs(before) do
  if not kept[name] then _G[name] = 7 end
end
local function restore()
  for name, v in before.pairs(before) do before.rawset(_G, name, v) end
end
local seven = string + model + require
local again = before.plot.line { { 1, 2 }, { 1, 2 } } -- a lazy part loaded only now finds its globals too
local out = folder "out.safetensors"
local ran, why = before.pcall(recipe_run, script, { input = { a = "examples/data/base.safetensors" }, out = out })
local got = { seven, ran and why ~= nil, tostring(again), tostring(base), base:plan().json, #dump(script) > 0 }
local left = { string, rawget(_G, "plot"), rawget(_G, "recipe") }
restore()
check.equal(got, { 21, true, text, shown, plan, true })
check.equal(left, { 7, 7, 7 }) -- nothing was brought back

-- At the prompt `table = …` is soon written.
do
  local f <close> = io.open(folder "in", "w")
  f:write(('string = 1\ntable, model = 2, 3\n:lint\n:who\n:save %s\n"still here"\n'):format(folder "saved.lua"))
end
local code, said = program(("-i <'%s'"):format(folder "in"))
check.equal(code, 0)
check.equal(said, "string = 1\n  'string' is a module of the language; a local of another name would leave it alone\n"
  .. "table, model = 2, 3\n  'table' is a module of the language; a local of another name would leave it alone\n"
  .. "table, model = 2, 3\n  'model' is a module of the language; a local of another name would leave it alone\n"
  .. "model   3\nstring  1\ntable   2\n" .. folder "saved.lua" .. ": 2 entries\n" .. '"still here"\n')
