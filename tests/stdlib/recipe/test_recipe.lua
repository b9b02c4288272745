-- SPDX-License-Identifier: Apache-2.0
-- The constructor and its mistakes, parameters, JSON, licences, names of the hub, and sessions; the commands
-- are in tests/cli/test_recipe.sh.
local folder = dofile "tests/stdlib/bind/folder.lua"
local check = dofile "tests/stdlib/bind/check.lua"
local json, decode = require "json", require "json.decode".decode
local null = require "json.decode".null
local make, licences, hub = require "recipe.make", require "recipe.licences", require "recipe.hub"

-- ---- all mistakes at once ----

local function mistakes(t)
  local ok, err = pcall(recipe, t)
  assert(not ok, "no mistake was found")
  local list = {}
  for line in tostring(err):gmatch "\n  ([^\n]+)" do list[#list + 1] = line end
  return list
end

local function build(m) return m.a end

check.equal(mistakes {}, { "name is missing", "inputs is missing", "build is missing" })
check.equal(mistakes { name = 1, nme = "x", version = "one", license = "MITT", tarn = "9.9", inputs = { ["a b"] = "x",
  b = { sorce = "x" }, c = "/etc", d = "hub:only", e = "../x", f = { license = "nope", shape = { w = { 1.5 } } } },
  build = 7, params = { p = { 2, max = 1 }, q = {}, r = { 1, type = "float" }, s = { "a", choices = { "b" } },
    t = { 1, min = 3, max = 2 }, u = { "x", type = "integer" } } }, {
  "unknown field 'nme'; did you mean 'name'?",
  "build is a number, not a function",
  "name is a number, not a string",
  "name is missing",
  "build is missing",
  "version is 'one'; expected numbers as in 1.2.0",
  "license: 'MITT' is no licence that is known here, did you mean 'MIT'? (LicenseRef-NAME stands for one of your own)",
  "needs tarn 9.9, and this is " .. tarn.version,
  "inputs: 'a b' is no name for an input (letters, digits and _; not out)",
  "inputs.b: unknown key 'sorce'; did you mean 'source'?",
  "inputs.c: '/etc' does not lie below the recipe's folder; leave the source out and give --c PATH",
  "inputs.d: 'hub:only' is not hub:organisation/name@revision",
  "inputs.e: '../x' does not lie below the recipe's folder; leave the source out and give --e PATH",
  "inputs.f: license: 'nope' is no licence that is known here (LicenseRef-NAME stands for one of your own)",
  "inputs.f: shape of w is not { n, … }",
  "params.p: the default is not at most 1",
  "params.q: neither a default nor a type",
  "params.r: its type is 'float'; expected number, integer, boolean, string or list",
  "params.s: the default is none of b",
  "params.t: min is above max",
  "params.t: the default is not from 3 to 2",
  "params.u: the default is no integer",
})
check.equal(mistakes { name = "x", build = build, inputs = { base = {}, a = { adapter_of = "bse" },
  b = { adapter_of = "a" }, c = { adapter_of = 1 }, d = { adapter_of = "base", architecture = "llama" } } }, {
  "inputs.c: adapter_of is a number, not a string",
  "inputs.d: an adapter has no architecture of its own; say it of base",
  "inputs.a: adapter_of names no input 'bse'; did you mean 'base'?",
  "inputs.b: 'a' is an adapter itself; adapter_of names a model",
})
check.raises("recipe: expected { name =", recipe, 7)
check.raises("is written for tarn", function()
  assert(make.recipe({ name = "x", inputs = {}, build = build, tarn = "1.0" }, "2.0.0"))
end)
assert(make.recipe({ name = "x", inputs = {}, build = build, tarn = "1.0" }, "1.7.0"))
assert(make.recipe({ name = "x", inputs = {}, build = build, tarn = "0.1" }, "0.9.0"))
check.equal(tostring(recipe { name = "x", inputs = { a = {} }, build = build }), "recipe x: 1 inputs, 0 params")
assert(not make.is { name = "x" })

-- ---- parameters ----

local r = recipe { name = "x", inputs = {}, build = build, params = { x = { 0.5, min = 0, max = 1 }, n = { type = "integer" },
  on = true, how = { "a", choices = { "a", "b" } }, list = { { 1, 2 } } } }
local function resolve(given)
  local p, list = make.resolve(r.params, given)
  return p, table.concat(list, "; ")
end
local p, why = resolve { n = "3", x = "1e-1", on = "false", how = "b", list = "0.25,4" }
check.equal(why, "")
check.equal({ p.x, p.n, p.on, p.how, p.list[1], p.list[2] }, { 0.1, 3, false, "b", 0.25, 4.0 })
check.equal(select(2, resolve {}), "n has no default: give --set n=…")
check.equal(select(2, resolve { n = 1.5, x = "inf", on = 1, how = "c", list = "1,x", y = 1 }),
  "how = c is none of a, b; list = 1,x is no list of numbers: entry 2; n = 1.5 is no integer; on = 1 is neither true nor "
  .. "false; x = inf is no number; the recipe has no parameter 'y'; did you mean 'n'?")

-- ---- JSON ----

local text = [=[ { "a" : [1, -2.5, 1e3, true, false, null, {}, []], "b" : "x\n\u00e9\ud83d\ude00\"\/" } ]=]
local v = decode(text)
check.equal({ v.a[1], v.a[2], v.a[3], v.a[4], v.a[5] }, { 1, -2.5, 1000.0, true, false })
assert(v.a[6] == null and next(v.a[7]) == nil and #v.a == 8)
check.equal(v.b, 'x\n\u{e9}\u{1F600}"/')
check.equal(decode(json.encode(v.b)), v.b)
for _, bad in ipairs { "", "{", "[1,]", "{\"a\":1,}", "{\"a\":1,\"a\":2}", "01", "1.", "+1", ".5", "\"\\x\"", "\"\\ud800\"", "\"\\udc00\"",
  "\"a\nb\"", "\"a", "tru", "[1] 2", "{a:1}", "nan", "1e", ("["):rep(100) .. ("]"):rep(100) } do
  check.raises("JSON", decode, bad)
end

-- ---- licences ----

check.equal(licences.find "apache-2.0".id, "Apache-2.0")
check.equal(licences.find "GPL-3.0-or-later".id, "GPL-3.0")
assert(licences.mistake "other" == nil and licences.mistake "LicenseRef-mine" == nil and licences.mistake "mine")
local function judge(out, id) return table.concat(licences.judge(out, { { "a", id } }), "; ") end
check.equal(judge("MIT", "Apache-2.0"), "")
check.equal(judge("Apache-2.0", "cc-by-nc-4.0"), "a: CC-BY-NC-4.0 forbids commercial use; the result says Apache-2.0")
check.equal(judge("CC-BY-NC-4.0", "CC-BY-NC-4.0"), "")
check.equal(judge("CC-BY-NC-4.0", "CC-BY-NC-SA-4.0"),
  "a: CC-BY-NC-SA-4.0 asks that what is made from it keeps its licence; the result says CC-BY-NC-4.0")
check.equal(judge(nil, "GPL-3.0"), "a: GPL-3.0 asks that what is made from it keeps its licence; the result states no licence")
check.equal(judge("gpl-3.0-only", "GPL-3.0"), "")
check.equal(judge("MIT", "llama3"),
  "a: Llama 3 Community License has terms of use that go with what is made from it; the result says MIT")
check.equal(judge("MIT", "CC-BY-ND-4.0"), "a: CC-BY-ND-4.0 does not let anything made from it be passed on; the result says MIT")
check.equal(judge("MIT", nil), "a: no licence is stated for it")

-- ---- the hub ----

check.equal(hub.parse "hub:org/name@v1.0".revision, "v1.0")
check.equal(hub.parse "hub:org/na.me-2".repository, "org/na.me-2")
for _, bad in ipairs { "hub:", "hub:a", "hub:a/b/c", "hub:../b", "hub:a/..", "hub:a/b@../../x", "hub:a/b@", "hub:/etc/passwd" } do
  assert(not hub.parse(bad), bad)
end

-- ---- sessions ----

local at <close> = folder()
local function file(name, body)
  local f = assert(io.open(at(name), "w"))
  f:write(body)
  f:close()
  return at(name)
end
local low, high = "examples/data/low.safetensors", "examples/data/high.safetensors"
local path = file("r.lua", [[
local part = require "part"
return recipe { name = "half", inputs = { a = {}, b = { optional = true } }, params = { t = part.default },
  build = function(m, p) return (1 - p.t) * m.a + p.t * (m.b or m.a) end,
  score = function(out, m, p) return { norm = (out - m.a):norm(), t = p.t } end }]])
file("part.lua", "return { default = 0.5 }")
local s = recipe.load(path, { input = { a = low, b = high }, set = { t = 0.25 } })
local plans = s:plans()
check.equal(#plans, 1)
check.equal(plans[1].model:mass(), 1.0)
local want = (0.25 * (model.open(high) - model.open(low))):norm()
check.near(s:try().norm, want, 1e-6 * want)
check.equal(s:try().t, 0.25)
check.equal((recipe.load(path, { input = { a = low } }):plans()[1].model - model.open(low)):norm(), 0.0)
check.raises("where is the input a? Give --a PATH", recipe.load, path)
check.raises("t = x is no number", recipe.load, path, { input = { a = low }, set = { t = "x" } })
check.raises("unknown option", recipe.load, path, { inputs = {} })

-- what an input has to be
model.open(low):save(at "family")
local family = file("family.lua", [[return recipe { name = "f", inputs = { a = { architecture = "llama", shape = { ["fc1.bias"] = { 128 },
  ["fc2.bias"] = { 128 }, none = { 1 } } } }, build = function(m) return m.a end }]])
check.raises("recipe 'f': a is without a config.json that names an architecture, the recipe is for llama\n"
  .. "  a: fc2.bias is {64}, the recipe expects {128}\n  a: none is not there, the recipe expects {1}",
  function() recipe.load(family, { input = { a = at "family" } }):plans() end)
file("family/config.json", '{"model_type": "gpt2"}')
check.raises("a is of the architecture gpt2, the recipe is for llama", function()
  recipe.load(family, { input = { a = at "family" } }):plans()
end)

-- a session is of its file: two at once, and one after an error in the other
local bad = recipe.load(file("bad.lua", 'return recipe { name = "bad", inputs = {}, build = function() error "no" end }'))
check.raises("bad.lua:1: no", bad.plans, bad)
check.raises("bad.lua:1: no", bad.plans, bad)
check.equal(s:plans()[1].plan, plans[1].plan)
check.raises("JSON", function() s.native.ask(s.host, "build", "{", {}) end)
check.raises("not asked save", function() s.native.ask(s.host, "save", "{}", {}) end)

-- the grid: both ends, decimal steps, names in order
local sweep = recipe.sweep(path, { input = { a = low, b = high }, over = { t = "0.1:0.9:0.1" } })
check.equal(#sweep, 9)
check.equal({ sweep[3].params.t, sweep[9].params.t }, { 0.3, 0.9 })
check.equal(sweep.best.params.t, 0.9)
check.equal(#recipe.sweep(path, { input = { a = low, b = high }, over = { t = { 0.5, 0, 1 } } }), 3)
check.equal(table.concat(recipe.sweep(path, { input = { a = low, b = high }, over = { t = "0.5,0.25" } }).repeated, " "), "")
check.raises("expected FROM:TO:STEP", recipe.sweep, path, { input = { a = low }, over = { t = "0:1" } })
check.raises("a step that leads there", recipe.sweep, path, { input = { a = low }, over = { t = "0:1:-0.1" } })
check.raises("more than", recipe.sweep, path, { input = { a = low }, over = { t = "0:1:0.00001" } })

-- what is common is told
local twice = file("twice.lua", [[
return recipe { name = "twice", inputs = { a = {}, b = {} }, params = { t = 1 },
  build = function(m, p) return p.t * merge.slerp { m.a, m.b, t = 0.5 } end, score = function(out) return out:norm() end }]])
local plain = recipe.sweep(twice, { input = { a = low, b = high }, over = { t = { 1, 2 } } })
check.equal(plain.repeated, { "slerp" })
check.equal(plain.shared, {})
local staged = recipe.sweep(twice, { input = { a = low, b = high }, over = { t = { 1, 2 } }, stage = true })
check.equal(staged.repeated, {})
check.equal(staged.shared, { "slerp" })
check.equal({ staged[1].score, staged[2].score }, { plain[1].score, plain[2].score })
check.equal(staged[2].score, 2 * staged[1].score)
-- sums of what is read are no gain; a task vector is no model to be read again
local vector = file("vector.lua", [[
return recipe { name = "vector", inputs = { a = {}, b = {} }, params = { t = 1 }, score = function(out) return out:norm() end,
  build = function(m, p)
    return m.a + p.t * (merge.slerp { m.a, m.b, t = 0.5 } - m.a) + 0.5 * (0.5 * m.a + 0.5 * m.b - m.b)
  end }]])
local v1 = recipe.sweep(vector, { input = { a = low, b = high }, over = { t = { 1, 2 } } })
local v2 = recipe.sweep(vector, { input = { a = low, b = high }, over = { t = { 1, 2 } }, stage = true })
check.equal(v1.repeated, { "binary" })
check.equal({ v2.repeated[1], #v2.shared }, { "binary", 0 })
check.equal({ v1[1].score, v1[2].score }, { v2[1].score, v2[2].score })
-- halves are not rounded on the way
model.open(low):cast("bf16"):save(at "low16.safetensors")
model.open(high):cast("bf16"):save(at "high16.safetensors")
local halves = { a = at "low16.safetensors", b = at "high16.safetensors" }
check.equal(recipe.sweep(twice, { input = halves, over = { t = { 1, 3 } }, stage = true })[2].score,
  recipe.sweep(twice, { input = halves, over = { t = { 1, 3 } } })[2].score)

-- ---- adapters as inputs ----

local golden = "tests/golden/lora/"
local adapted = file("adapted.lua", [[
return recipe { name = "adapted", license = "MIT", params = { s = 0.5 },
  inputs = { base = { license = "MIT" }, ad = { license = "MIT", adapter_of = "base", optional = true } },
  build = function(m, p) return m.ad and m.base + p.s * m.ad or 2 * m.base end,
  check = function(out, m, p) assert((out - (m.base + p.s * m.ad)):norm() < 1e-6) end,
  score = function(out, m) return (out - m.base):norm() end }]])
local with = { base = golden .. "base_llama", ad = golden .. "r4_qv" }
local base = model.open(with.base)
for _, untrusted in ipairs { false, true } do
  local r = recipe.load(adapted, { input = with, untrusted = untrusted })
  local want = model.open(with.base, { label = "base" })
  want = want + 0.5 * model.lora(with.ad, want, { label = "ad" })
  check.equal(r:plans()[1].plan, want:plan().json)
  local out = at("adapted" .. tostring(untrusted) .. ".safetensors")
  recipe.run(adapted, { input = with, out = out, untrusted = untrusted })
  check.equal((model.open(out) - (base + 0.5 * model.lora(with.ad, base))):load():norm(math.huge), 0.0)
  check.equal(#recipe.load(adapted, { input = { base = with.base }, untrusted = untrusted }):plans(), 1)
  check.raises("rank 4, adapter_config.json says 8", function()
    local other = at "other/"
    os.execute(("mkdir -p '%s'; cp %s/adapter* '%s'; sed -i 's/\"r\": 4/\"r\": 8/' '%s/adapter_config.json'"):format(other,
      with.ad, other, other))
    recipe.load(adapted, { input = { base = with.base, ad = other }, untrusted = untrusted }):plans()
  end)
  check.raises("adapter_config.json is not there", recipe.load, adapted,
    { input = { base = with.base, ad = with.base }, untrusted = untrusted })
end
local swept = recipe.sweep(adapted, { input = with, over = { s = { 1, 2 } } })
check.equal(math.abs(swept[2].score - 2 * swept[1].score) < 1e-6, true)

-- a lock holds the factors and what scales them, and is the same without trust
local lock_path = recipe.lock(adapted, { input = with })
local function text_of(name)
  local f <close> = assert(io.open(name, "rb"))
  return f:read "a"
end
local locked = text_of(lock_path)
assert(decode(locked).inputs.ad.files["adapter_config.json"])
check.equal(recipe.lock(adapted, { input = with, untrusted = true }), lock_path)
check.equal(text_of(lock_path), locked)
check.equal(select(2, recipe.lock(adapted, { input = with, untrusted = true, check = true })), {})
local scaled = at "scaled/"
os.execute(("mkdir -p '%s'; cp %s/adapter* '%s'; sed -i 's/\"lora_alpha\": [0-9]*/\"lora_alpha\": 3/' '%s/adapter_config.json'")
  :format(scaled, with.ad, scaled, scaled))
local differs = select(2, recipe.lock(adapted, { input = { base = with.base, ad = scaled }, untrusted = true, check = true }))
check.equal(#differs, 2)
check.equal(differs[1]:match "^[%w_.]+: ", "inputs.ad.files.adapter_config.json: ")
check.raises("does not match", recipe.run, adapted, { input = { base = with.base, ad = scaled }, out = at "no" })

-- ---- plans as models ----

local plan = merge.slerp { model.open(low), model.open(high), t = 0.3 }:plan().json
check.equal((model.of_plan(plan, { input = { low = low, high = high } }) - merge.slerp { model.open(low), model.open(high),
  t = 0.3 }):norm(), 0.0)
check.raises("where is the input 'high'", model.of_plan, plan, { input = { low = low } })
check.raises("its tensors' names", model.of_plan, plan, { input = { low = low, high = "examples/data/digits.safetensors" } })
check.raises("plan:", model.of_plan, "{}")
check.equal(model.open(low):digest(), "dec9de53cea64b8d19f46d1f951cacb435bbc658f94e765aed10d7568b658341")
check.raises("is not in files", function() return (model.open(low) - model.open(high)):digest() end)
check.raises("recipe.load: expected the path of a file, got a table", recipe.load, {})
check.raises("recipe.lineage: expected the path of a file, got nothing", recipe.lineage)
