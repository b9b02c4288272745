-- SPDX-License-Identifier: Apache-2.0
-- What a recipe's script has in reach: networks to look with, and nothing that reads or writes files or trains,
-- in this process and in one of its own, before and after parts of the library are loaded. Which functions
-- touch files is asked of the documentation, so that a new one cannot be forgotten here.
local check = dofile "tests/stdlib/bind/check.lua"
local folder <close> = dofile "tests/stdlib/bind/folder.lua"()
local input = { a = "examples/data/base.safetensors" }

-- What `body` returns inside of build, for both ways to run a recipe. An error
-- carries it out.
local function inside(body)
  local path = folder "r.lua"
  local file <close> = assert(io.open(path, "wb"))
  file:write('return recipe { name = "x", inputs = { a = {} }, build = function(m) local function said()\n', body,
    '\nend\nerror("<" .. said() .. ">") end }')
  file:close()
  local out = {}
  for k, untrusted in ipairs { false, true } do
    local _, err = pcall(function() return recipe.load(path, { input = input, untrusted = untrusted }):plans() end)
    out[k] = tostring(err):match "<(.*)>" or error(tostring(err), 2)
  end
  check.equal(out[2], out[1])
  return out[1]
end

-- ---- every function whose signature takes a path ----

local harmless = {
  ["model:files"] = "names the files of a declared input", ["net:capture"] = "a path in a network",
  ["plot.path"] = "draws a path of probe", ["plot.plane"] = "draws a plane of probe",
  ["merge.swa"] = "a folder goes through model.list", ["merge.lawa"] = "a folder goes through model.list",
}
local absent = { tarn = true, average = true, search = true, cmaes = true, record = true,
  alignment = true } -- values that only a refused module makes
local names = {}
for _, d in ipairs(tarn.docs()) do
  local arguments = d.signature:match "^[%w_.:]+(.*)$" or d.signature
  arguments = arguments:gsub("%->.*", "")
  local touches = arguments:find "%f[%a]path" or arguments:find "%f[%a]folder" or arguments:find "%f[%a]file"
    or arguments:find "PATH"
  if touches and not harmless[d.name] and not absent[d.name:match "^%w+"] then names[#names + 1] = d.name end
end
assert(#names > 15, "the documentation does not say what takes a path")

local values = { model = "m.a", figure = "plot.line { { 1, 2 }, { 1, 2 } }" }
local probe = {}
for i, name in ipairs(names) do
  local module, sep, part = name:match "^(%w+)([.:]?)(.*)$"
  local value = values[module]
  if sep == ":" and not value then error(name .. ": who makes such a value, and may a recipe?") end
  local call = sep == ":" and ('%s:%s "x.svg"'):format(value, part) or name .. '("x", m.a)'
  probe[i] = ("try(%q, function() return %s end)"):format(name, call)
end
local wrapper = [[
local open = {}
local function try(name, f)
  local ok, err = pcall(f)
  local what = not ok and tostring(err):match "([%w_.:]+) is not available to a recipe"
  if what ~= name and what ~= name:match "^%w+" and what ~= "io" then open[#open + 1] = name .. ": " .. tostring(err) end
end
]]
-- Loading the lazy parts of the modules must not bring anything back.
local load_all = "for _, m in ipairs { model, merge, tensor, recipe, by, plot, nn } do pcall(function() return m.foo end) end\n"
for _, before in ipairs { "", load_all } do
  check.equal(inside(wrapper .. before .. table.concat(probe, "\n") .. before .. '\nreturn table.concat(open, "; ")'), "")
end

-- ---- whole modules ----

for _, name in ipairs { "data", "train", "eval", "search", "probe", "align" } do
  check.equal(inside(("local _, e = pcall(function() return %s end) return e"):format(name)):match ": (.*)",
    name .. " is not available to a recipe")
  check.equal(inside(("return tostring(rawget(_G, %q))"):format(name)), "nil")
end
check.equal(inside("local _, e = pcall(cache, print) return e"):match "cache.*",
  "cache is not available to a recipe: it reads what `inputs` names and returns models")
check.equal(inside 'local ok = pcall(require, "train.fit") return tostring(ok)', "false")

-- ---- what it may have ----

check.equal(inside [[local net = nn.mlp { 64, 128, 64, 10 }
  return ("%d %s"):format(net.depth, net:params()[1].name)]], "3 fc1.weight")
check.equal(inside "return tostring(merge.swa { m.a, m.a }:mass())", "1.0")
check.equal(inside "return tostring(grad(function(x) return x * x end, 3))", "6.0")
