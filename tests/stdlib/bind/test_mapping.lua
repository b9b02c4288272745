-- SPDX-License-Identifier: Apache-2.0
-- docs/mapping.md: every expression in its tables is a model that can be computed and holds finite numbers, its
-- blocks of Lua run, and every merge.NAME in it exists. All methods of mergekit are in its table.
local check = require "check"

local methods = {}
for _, row in ipairs(merge.methods()) do methods[row.name] = true end

local function models()
  local env = setmetatable({}, { __index = _G })
  for name, file in pairs { base = "base", a = "low", b = "high", c = "twin" } do
    env[name] = model.open("examples/data/" .. file .. ".safetensors")
  end
  return env
end

local function finite(m, what)
  local loaded = m:load()
  for _, name in ipairs(loaded:names()) do
    local bad = loaded:tensor(name):to("f64"):isfinite():logical_not():to("f64"):sum()
    check.equal(bad, 0.0, what .. ": " .. name)
  end
end

-- The blocks come first: the tables use what they define.
local file = assert(io.open "docs/mapping.md")
local page = file:read "a"
file:close()
local env, blocks = models(), 0
for text in page:gmatch "\n```lua\n(.-)\n```" do
  local own = text:find "\nreturn " and models() or env
  local result = assert(load(text, "=docs/mapping.md", "t", own))()
  if result then finite(result, "a block") end
  blocks = blocks + 1
end
check.equal(blocks, 2)

local rows, said, kit = 0, {}, {}
local section
for line in page:gmatch "[^\n]+" do
  section = line:match "^## (.+)" or section
  local operator, cell = line:match "^| ([^|]+) | (.+) |$"
  if operator and not operator:find "^%-+$" and cell ~= "tarn" then
    rows = rows + 1
    if section == "mergekit" then kit[operator] = true end
    local code = cell:match "^`([^`]+)`"
    assert(code or cell:find "^not " or cell:find "^as ", line)
    if code then
      local f, message = load("return " .. code, "=" .. operator, "t", env)
      local ok, result = pcall(assert(f, message))
      assert(ok, operator .. ": " .. tostring(result))
      finite(result, operator)
    end
  end
end
for name in page:gmatch "merge%.([%l_]+) [{]" do
  said[name] = true
  assert(methods[name] or name == "map", "merge." .. name)
end
assert(rows > 60, rows)
for name in pairs((require "mergekit.methods").methods) do
  assert(kit[name], "docs/mapping.md says nothing of mergekit's " .. name)
end
for _, name in ipairs { "add_difference", "train_difference", "cosine_add_difference", "sum_twice", "triple_sum",
  "tensor_sum", "rank_crossover", "distribution_crossover", "frequency_crossover", "rotate", "clamp", "dropout" } do
  assert(said[name], name)
end

-- Some against numbers worked out by hand.
local function of(...) return model.new { w = tensor { ... } } end
local function near(m, want)
  local got = m:tensor("w"):load():totable()
  for k, v in ipairs(want) do
    if math.abs(got[k] - v) > 1e-6 then error(string.format("%d: %.9g, expected %.9g", k, got[k], v), 2) end
  end
end
near(env.perpendicular(of(1, 1), of(2, 0)), { 1, -1 })
near(env.geometric_sum(of(4, -4), of(9, -9), 0.5), { 6, -6 })
near(env.geometric_sum(of(-4), of(9), 0.5), { 0 })
near(env.multiply_quotient(of(2, 2), of(0.5, 2), of(1, 1), 1), { 1, 2 }) -- opposite logarithms: a (b / c); equal: a
near(env.multiply_difference(of(5, -3), of(3, 0), of(1, 1), 0.5, 0), { 1 + math.sqrt(8), 1 - 2 })
near(env.similarity(of(1, 1), of(1, -1), of(0, 0), 1, 1), { 1, 1 - 1 }) -- alike: the mean; opposite: a + b - c
near(env.euclidean(of(3, 0), of(0, 3), of(0, 0), 0.5), { 1.5, 1.5 })
local rows2 = model.new { w = tensor { { 1, 0 }, { 1, 0 } } }
local other = model.new { w = tensor { { 2, 0 }, { 0, 2 } } }
local zero = 0 * rows2
local common = env.extract(zero, rows2, other, 1, 0, 1):tensor("w"):load():totable()
check.equal(common, { { 2.0, 0.0 }, { 0.0, 1.0 } }) -- cosines 1 and 0: all of b, half of b
