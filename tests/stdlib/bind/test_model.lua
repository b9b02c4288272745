-- SPDX-License-Identifier: Apache-2.0
-- Models in Lua: opening, algebra, looking inside, and the rules 1-5 of the design, each in a block of
-- its own. Rule 6 (passes) and plans: test_plan.lua. merge.map: test_map.lua. Schedules: test_by.lua.
local check = require "check"
local folder <close> = require "folder"()

local data = "examples/data/"
local function digits(name) return model.open(data .. name .. ".safetensors") end
local base, a, b, c = digits "base", digits "low", digits "high", digits "twin"

-- Every tensor of two models, bit by bit (equal values, and equal signs of zeros by 1/x).
local function same(x, y, what)
  check.equal(x:names(), y:names(), what)
  for _, name in ipairs(x:names()) do
    local s, t = x:tensor(name), y:tensor(name)
    local differ = s:ne(t):to("f64"):sum()
    if type(differ) == "userdata" then differ = differ:item() end
    check.equal(differ, 0.0, (what or "") .. " " .. name)
  end
end

local function save(m, name, options)
  m:save(folder(name), options)
  return model.open(folder(name))
end

-- ---- opening and looking inside ----

do
  check.equal(#base, 6)
  check.equal(base:names(), { "fc1.bias", "fc1.weight", "fc2.bias", "fc2.weight", "fc3.bias", "fc3.weight" })
  check.equal(base:names "bias$", { "fc1.bias", "fc2.bias", "fc3.bias" })
  check.equal(base:names(function(n, i) return i.name == n and i.depth == 1 end), { "fc2.bias", "fc2.weight" })
  check.equal(base:numel(), 17226)
  check.equal(base:bytes(), 68904)
  check.equal(base:dtype(), "f32")
  check.equal(base:label(), "base")
  check.equal(base:config(), nil)
  check.equal(base:mass(), 1.0)
  check.equal(#base:files(), 1)
  check.equal(base:structure().depths, 3)
  check.equal(base:summary().parameters, 17226)
  check.equal(base["fc1.weight"].shape, { 128, 64 })
  check.equal(base:tensor("fc1.weight"):numel(), 8192)
  local i = base:info "fc2.weight"
  check.equal({ i.dtype, i.place, tostring(i.buffer) }, { "f32", "layer", "false" })
  check.equal({ i.numel, i.bytes, i.layer, i.depth }, { 8192, 32768, 2, 1 })
  local seen = {}
  for name, t in pairs(base) do
    seen[#seen + 1] = name
    check.equal(t.shape, base:info(name).shape)
  end
  check.equal(seen, base:names())
  check.equal(model.open(data .. "low.safetensors", { label = "x" }):label(), "x")

  -- the folder tells one model.safetensors from another
  local d = folder "deep"
  assert(os.execute("mkdir '" .. d .. "' && cp " .. data .. "low.safetensors '" .. d .. "/model.safetensors'"))
  check.equal(model.open(d):label(), "deep")
  check.equal(model.open(d .. "/"):label(), "deep")
  check.equal(model.open(d .. "/model.safetensors"):label(), "deep")

  check.raises("did you mean examples/data/low.safetensors?", model.open, data .. "lwo.safetensors")
  check.raises("unknown option 'lable'; did you mean 'label'?", model.open, data .. "low.safetensors", { lable = 1 })
  check.raises('missing = "bse"; expected error, base, zero or drop', model.open, data .. "low.safetensors",
    { missing = "bse" })
  check.raises('on_integer = "bse"; expected error or base', model.open, data .. "low.safetensors",
    { on_integer = "bse" })
  check.raises("option 'label'", model.open, data .. "low.safetensors", { label = 3 })
  check.raises("did you mean fc1.weight?", function() return a["fc1.wieght"] end)
  check.raises("low has no tensor fc1.wieght", function() return a:tensor "fc1.wieght" end)
  check.raises("did you mean model:save?", function() return a:savee "x" end)
  check.raises("no such method", function() return a.zzzzzz end)
  check.raises("indexed by the name of a tensor, got a number", function() return a[1] end)
  check.raises("models do not change", function() a.x = 1 end)
  check.raises("models have no order", function() return a < b end)
  check.raises("low has no tensor fc1", function() return a:info "fc1" end)
end

-- ---- model.new, join, only, rename, slice, cast, with ----

do
  local m = model.new { { "w", tensor { { 1, 2 }, { 3, 4 } } }, { "b", tensor { 5, 6 } } }
  check.equal(m:names(), { "w", "b" })
  check.equal(model.new({ w = tensor { 1 }, b = tensor { 2 }, a = tensor { 3 } }):names(), { "a", "b", "w" })
  check.equal(model.new({ w = tensor { 1 } }, { mass = 0 }):mass(), 0.0)
  check.tensor(m.w, { { 1.0, 2.0 }, { 3.0, 4.0 } })
  check.tensor(m:slice("w", 2)["w"], { { 3.0, 4.0 } })
  check.tensor(m:slice("w", -2, -1)["w"], { { 1.0, 2.0 }, { 3.0, 4.0 } })
  check.tensor(m:slice("b", -1)["b"], { 6.0 })
  check.tensor(m:slice("b", 2, 1)["b"], {})
  check.raises("rows 1 to 3 of w, which has 2", m.slice, m, "w", 1, 3)
  check.raises("rows 0 to 0", m.slice, m, "w", 0)
  check.raises("did you mean fc1.weight?", a.slice, a, "fc1.wight", 1)
  check.raises("a number as tensor", model.new, { { "s", 3 } })
  check.raises("two tensors would be called a", model.new, { { "a", tensor { 1 } }, { "a", tensor { 2 } } })
  check.raises("did you mean 'mass'?", model.new, { a = tensor { 1 } }, { mas = 0 })
  check.raises("zero byte", model.new, { ["a\0b"] = tensor { 1 } })

  check.equal(a:only("fc1"):names(), { "fc1.bias", "fc1.weight" })
  check.equal(a:only(function(_, i) return #i.shape == 1 end):names(), a:names "bias")
  check.equal(#a:only(function() return false end), 0)
  check.raises("no tensor of low matches 'zzz'", a.only, a, "zzz")
  check.raises("expected a pattern or a function(name, info), got number", a.only, a, 3)
  check.raises('pattern "(", character 2: missing closing parenthesis', a.only, a, "(")
  check.raises("boom", a.only, a, function() error "boom" end)

  local r = a:rename { ["fc1.bias"] = "first" }
  check.equal(r:names()[1], "first")
  check.equal(r:rename(function(n) return n == "first" and "fc1.bias" or nil end):names(), a:names())
  same(r:rename { first = "fc1.bias" }, a)
  check.raises("did you mean fc1.weight?", a.rename, a, { ["fc1.wieght"] = "x" })
  check.raises("two tensors would be called x", a.rename, a, function() return "x" end)
  check.raises("the new name of fc1.bias is a number", a.rename, a, function() return 1 end)
  check.raises("zero byte", a.rename, a, function() return "a\0" end)
  -- new names say new things: layers are found again
  local up = a:rename(function(n) return (n:gsub("%d", function(d) return math.tointeger(d) + 10 end)) end)
  check.equal(up:info("fc12.weight").layer, 12)
  check.equal(up:info("fc12.weight").depth, 1)
  check.equal((by.layer { { 12, 12, 2 }, other = 0, final = 0, head = 0, embed = 0 } * up):only("fc12"):norm(), 2 * up:only("fc12"):norm())

  local j = model.join { a:only "fc1", b:only "fc[23]" }
  check.equal(j:names(), a:names())
  check.equal(j:structure().depths, 3)
  same(j:only "fc1", a:only "fc1")
  same(j:only "fc2", b:only "fc2")
  check.raises("two tensors would be called fc1.bias", model.join, { a, b })
  check.raises("expected 1 to 4096 models, got 0", model.join, {})
  check.raises("entry 2 is a number, not a model", model.join, { a, 3 })

  check.equal(a:cast("bf16"):dtype(), "bf16")
  check.raises("unknown dtype 'f33'; did you mean 'f32'?", a.cast, a, "f33")
  check.raises("i32 is no floating dtype", a.cast, a, "i32")
  check.raises("did you mean 'missing'?", a.with, a, { missin = "drop" })
end

-- ---- rule 1: laziness begins at a file ----

do
  -- 4 TB that no test could read: everything up to here is made of headers.
  local path = folder "huge.safetensors"
  local header = '{"layers.0.w":{"dtype":"F32","shape":[549755813888,2],"data_offsets":[0,4398046511104]}}'
  header = header .. (" "):rep(-#header % 8)
  local f = assert(io.open(path, "wb"))
  f:write(string.pack("<I8", #header), header)
  f:close()
  local made = os.execute(("truncate -s %d '%s' >/dev/null 2>&1"):format(8 + #header + 4398046511104, path))
  local huge = made and model.open(path) or nil -- some file systems have no such files
  if huge then
    local m = huge + 0.5 * (huge - huge)
    assert(tostring(m):find("4.40 TB", 1, true), tostring(m))
    assert(#tostring(m["layers.0.w"]) < 200)
    check.equal(m:plan().reads, 4398046511104)
    assert(#tostring(m:plan()) > 0)
  end
  local m = a + b
  check.equal(tostring(m), "model add(low, high): 6 tensors, 17226 parameters, f32, 68.9 kB, planned: 1 pass, 137.8 kB to read, mass 2")
  check.equal(tostring(a - b):sub(1, 6), "vector")
  check.equal(tostring(a:load()):match "in memory", "in memory")
  -- asking for values while only planning is an error that names what forces
  for _, force in ipairs {
    function() m:load() end, function() m:norm() end, function() a:dot(b) end, function() a:cosine(b) end,
    function() m:stage() end, function() m["fc1.bias"]:load() end, function() m["fc1.bias"]:sum():item() end,
  } do
    check.raises("plan", model.plans, force)
  end
  check.raises("item", function() return m["fc1.bias"]:sum() < 1 end)
  check.raises(":item() makes a number of it", function() return a * a["fc1.bias"]:sum() end)
end

-- ---- rule 2: storage dtypes are only stored ----

local a16, b16, base16 = save(a, "a16", { dtype = "bf16" }), save(b, "b16", { dtype = "bf16" }),
  save(base, "base16", { dtype = "bf16" })
do
  check.equal(a16:dtype(), "bf16")
  check.equal((a16 + b16):dtype(), "bf16")
  check.equal((a16 + b)["fc1.bias"].dtype, "f32")
  check.equal((a + b16):dtype(), "f32")   -- that of the first point operand
  check.equal(((a16 - b16) + b):dtype(), "f32") -- a vector is none
  check.equal(merge.linear({ a16, b }):dtype(), "bf16")
  check.equal(merge.task_arithmetic({ base = base, a16, b16 }):dtype(), "f32")
  -- computed in f32 and rounded once: the f32 result, narrowed
  local function formula(x, y) return x + 0.37 * (y - x) * 1.1 end
  local widened = formula(a16:cast "f32", b16:cast "f32"):cast "bf16"
  same(save(formula(a16, b16), "once"), save(widened, "widened"))
  local twice = (0.37 * (b16 - a16)):cast "bf16" * 1.1
  assert((formula(a16, b16) - (a16 + twice)):norm() > 0) -- and that is no triviality
  check.equal(save(0.5 * a16 + 0.5 * b16, "wide", { dtype = "f32" }):dtype(), "f32")
  check.raises("unknown dtype 'f33'; did you mean 'f32'?", a.save, a, folder "x", { dtype = "f33" })
  check.raises("no floating dtype", a.save, a, folder "x", { dtype = "i64" })
  -- what can only be stored is copied, half bytes too
  local path = "tests/golden/store/valid/all_dtypes.safetensors"
  local all = model.open(path)
  save(all, "all.safetensors")
  save(all:load(), "all-loaded.safetensors")
  local function tail(name)
    local file = assert(io.open(name, "rb"))
    file:seek("end", -all:bytes())
    local bytes = file:read "a"
    file:close()
    return bytes
  end
  check.equal(tail(folder "all.safetensors"), tail(path))
  check.equal(tail(folder "all-loaded.safetensors"), tail(path))
  check.raises("f4 can be stored and copied, not computed with", function() return (all:only "t_f4" * 2):load() end)
  local f64 = a:cast "f64"
  check.equal((f64 + a)["fc1.bias"].dtype, "f64")
end

-- ---- rule 3: as written; eager and planned are equal to the bit ----

do
  local function all(x, y, z, w)
    return {
      x + y, x - y, x * y, x / (y * y + 1), -x, x * 0.3, 0.3 * x, x / 3, 2 - x, x + 0.1,
      (x + y) + z, x + (y + z), x + 0.4 * (y - x) + 0.3 * (z - x), (x - y):only "fc1" + z,
      (0.3 * x + 0.7 * y):cast "f16" * 1.01, by.depth { 0, 1 } * (x - y) + y,
      by.name { { "bias", 0.5 }, { ".", 2 } } * x,
      merge.linear { x, y, weight = { 0.6, 0.4 } }, merge.slerp { x, y, t = 0.3 },
      merge.ties { base = w, x, y, z, density = 0.3 }, merge.ties { base = w, x, y, trim = "tensor" },
      merge.dare_ties { base = w, x, y, seed = 3 }, merge.model_stock { base = w, x, y, z },
      merge.karcher { x, y, z }, merge.linear { merge.slerp { x, y }, z },
      merge.ema { x, y, z }, merge.median { x, y, z, w }, merge.trimmed_mean { x, y, z, w, trim = 1 },
      merge.geometric_median { x, y, z }, merge.wise_ft { base = w, x }, merge.paint { base = w, x, y },
      merge.expo { base = w, x }, merge.warp { base = w, x, y, z }, merge.nlerp { base = w, x, y, axis = "row" },
      merge.nuslerp { base = w, x, y, axis = "row" }, merge.nuslerp { x, y, axis = "column" },
      merge.multislerp { x, y, z }, merge.slerp { x, y, norm = "lerp", scope = "global" },
      merge.model_stock { base = w, x, y, z, axis = "row", mean = "angle" },
      merge.map { x, y, apply = function(t) return (t[1] * t[2]):clamp(-0.1, 0.1) + t[2]:mean() end },
    }
  end
  for _, kind in ipairs { { a, b, c, base }, { a16, b16, a16 * 0.5 + b16, base16 } } do
    local planned = all(table.unpack(kind))
    local held = {}
    for i, m in ipairs(kind) do held[i] = m:load() end
    local eager = all(table.unpack(held))
    for i, m in ipairs(planned) do
      same(m, eager[i], "expression " .. i)
      same(m:load(), eager[i], "loaded expression " .. i)
      check.equal(m:dtype(), eager[i]:dtype())
      check.equal(m:mass(), eager[i]:mass())
    end
    same(save(planned[18], "as-planned", { overwrite = true }), save(eager[18], "as-eager", { overwrite = true }))
  end
  local left, right = (a + b) + c, a + (b + c)
  assert((left - right):norm() > 0) -- never re-associated
end

-- ---- rule 4: points and vectors ----

do
  check.equal((a - b):mass(), 0.0)
  check.equal((0.25 * a + 0.75 * b):mass(), 1.0)
  check.equal((a + 0.4 * (b - a)):mass(), 1.0)
  check.equal((0.1 * a + 0.2 * b - 0.3 * c):mass(), 0.0) -- rounding leaves nothing behind
  check.equal((-a):mass(), -1.0)
  check.equal((a / 4):mass(), 0.25)
  check.equal((a + 1):mass(), 1.0)
  check.equal((1 - a):mass(), -1.0)
  check.equal((3 * a):mass(), 3.0)
  check.equal((by.depth { 0, 1 } * (a - b)):mass(), 0.0)
  check.equal(a:only("fc1"):mass(), 1.0)
  check.equal((a - b):rename(function(n) return "x." .. n end):mass(), 0.0)
  check.equal((a - b):cast("bf16"):mass(), 0.0)
  check.equal((a - b):load():mass(), 0.0)
  check.equal(model.join({ (a - b):only "fc1", (a - b):only "fc2" }):mass(), 0.0)
  for _, m in ipairs { merge.linear { a, b, weight = { 2, 1 } }, merge.slerp { a, b }, merge.karcher { a, b },
    merge.ties { base = base, a, b }, merge.model_stock { base = base, a, b } } do
    check.equal(m:mass(), 1.0)
  end
  check.equal(merge.linear({ a - base, b - base }):mass(), 0.0)
  check.equal(merge.linear({ a, b - base, normalize = false }):mass(), 1.0)
  check.equal(merge.linear({ a, b, normalize = false }):mass(), 2.0)
  check.equal(merge.linear({ a, b, weight = 0.5, normalize = false }):mass(), 1.0)

  -- names missing from a vector are zero
  local delta = a - base
  same(b + delta:only "fc1" - b, model.join { (b + delta - b):only "fc1", (b - b):only "fc[23]" })
  check.equal(#(delta:only "fc1" + (b - base):only "fc2"), 4) -- two vectors: names of either
  check.raises("only in low", function() return a + b:only "fc1" end)
  check.raises("only in low", function() return b:only "fc1" + a end)
  check.raises("only in", function() return b:only "fc1" + delta end) -- a coordinate that the point lacks

  -- inner products: a vector that lacks a name is zero there, wherever it stands
  local part = delta:only "fc1"
  check.near(part:cosine(delta), part:norm() / delta:norm(), 1e-12)
  check.near(delta:cosine(part), part:norm() / delta:norm(), 1e-12)
  check.near(part:dot(delta), part:norm() ^ 2, 1e-9)
  check.equal(part:dot((b - base):only "fc2"), 0.0)
  check.raises("only in", function() return a:only("fc1"):dot(a) end)
  check.raises("only in", function() return a:dot(a:only "fc1") end)
  check.raises("model expected", function() return a:dot(3) end)
  check.raises("p is 1, 2 or math.huge", a.norm, a, 3)

  -- shapes
  check.raises("1 shape differs between low and high", function() return a + b:slice("fc3.weight", 1, 5) end)
end

-- Policies: error, base, zero, drop.
do
  local less = b:only "weight"
  local function with(m, missing) return m:with { missing = missing } end
  local function at(m, name) return m[name]:load() end
  for _, missing in ipairs { "base", "zero", "drop" } do
    local lead = with(a, missing)
    local sum = 0.3 * lead + 0.7 * less
    check.equal(#sum, missing == "drop" and 3 or 6, missing)
    check.equal(#(less:with { missing = missing } + a), missing == "zero" and 6 or 3, missing)
  end
  -- base: what is lacking is the base's point, however it enters
  check.equal((at(0.25 * with(a, "base") + 0.75 * less, "fc1.bias") - at(a, "fc1.bias")):abs():max(), 0.0)
  check.equal(at(with(a, "base") - less, "fc1.bias"):abs():max(), 0.0)
  check.equal((at(with(a, "base") + 0.4 * (less - a:only "weight"), "fc1.bias") - at(a, "fc1.bias")):abs():max(), 0.0)
  check.equal((at((b - base):only("weight"):with { missing = "base" } - a, "fc1.bias") + at(a, "fc1.bias")):abs():max(), 0.0)
  check.equal((at(merge.map { a, less, missing = "base", apply = function(t) return t[2] end }, "fc1.bias")
    - at(a, "fc1.bias")):abs():max(), 0.0)
  -- zero
  check.equal((at(0.25 * with(a, "zero") + 0.75 * less, "fc1.bias") - 0.25 * at(a, "fc1.bias")):abs():max(), 0.0)
  check.equal(at(merge.map { a, less, missing = "zero", apply = function(t) return t[2] end }, "fc1.bias"):abs():max(), 0.0)
  -- every method takes every policy, also where only a later model has the tensor
  for _, name in ipairs { "linear", "slerp", "karcher", "task_arithmetic", "ties", "dare_linear", "dare_ties", "model_stock" } do
    local based = not (name == "linear" or name == "slerp" or name == "karcher")
    for _, missing in ipairs { "base", "zero", "drop" } do
      for _, lead in ipairs { a, a:only "weight" } do
        local o = { lead, lead == a and less or b, missing = missing, base = based and base:only "weight" or nil }
        local m = merge[name](o):load()
        local all = missing == "zero" or (not based and lead == a and missing == "base")
        check.equal(#m, all and 6 or 3, name .. " " .. missing)
      end
    end
    local o = { a, less, base = based and base or nil }
    check.raises("do not hold the same tensors", merge[name], o)
  end
end

-- Side files come from the first point operand; a mass that is not 1 is a warning.
do
  local function write(name, text)
    local f = assert(io.open(folder(name), "w"))
    f:write(text)
    f:close()
  end
  local read = folder.text
  a:save(folder "sided")
  write("sided/config.json", '{"torch_dtype": "float32", "which": "a"}')
  write("sided/tokenizer.json", "{}")
  local sided = model.open(folder "sided")
  check.equal(sided:config(), '{"torch_dtype": "float32", "which": "a"}')
  for i, m in ipairs { sided, sided + 0.5 * (b - a), (b - a) + sided, sided:load(), 0.5 * sided:load() + 0.5 * b,
    merge.linear { sided, b }, merge.linear({ sided, b }):load(), sided:rename(function(n) return n end) } do
    m:save(folder("side" .. i))
    check.equal(read("side" .. i .. "/config.json"), '{"torch_dtype": "float32", "which": "a"}')
    check.equal(read("side" .. i .. "/tokenizer.json"), "{}")
    check.equal(m:config(), sided:config())
  end
  sided:save(folder "narrow", { dtype = "bf16" })
  assert(read("narrow/config.json"):find('"torch_dtype": "bfloat16"', 1, true))
  sided:cast("f16"):save(folder "narrow2")
  assert(read("narrow2/config.json"):find('"torch_dtype": "float16"', 1, true))
  check.equal(read "side1/tarn-provenance.json" ~= nil, true)

  local function warned(expression)
    local text = ("local a, b = model.open '%slow.safetensors', model.open '%shigh.safetensors'; (%s):save('%s', {overwrite = true})")
    write("warn.lua", text:format(data, data, expression, folder "warned.safetensors"))
    local code, _, said = folder.tarn("'" .. folder "warn.lua" .. "'")
    check.equal(code, 0, said)
    return said
  end
  assert(warned("a - b"):find("looks like a task vector", 1, true))
  assert(warned("a + b"):find("mass 2, not 1", 1, true))
  check.equal(warned "0.5 * a + 0.5 * b", "")
end

-- ---- rule 5: integers and bools are no coordinates; tied tensors are one ----

do
  local function counted(count, flag, weight)
    return model.new { { "bn.weight", tensor { weight, 2 } }, { "bn.num_batches_tracked", tensor({ count }, { dtype = "i64" }) },
      { "mask", tensor({ flag, true }, { dtype = "bool" }) } }
  end
  local function each(x, y, z)
    for _, f in ipairs { function(p, q) return 0.5 * p + 0.5 * q end, function(p, q) return p - q end,
      function(p, q) return merge.linear { p, q } end,
      function(p, q) return merge.map { p, q, apply = function(t) return t[1] + t[2] end } end } do
      z(f, x, y)
    end
  end
  local p, q, r, s = counted(7, true, 1), counted(7, true, 3), counted(9, true, 3), counted(7, false, 3)
  -- the same from files, where everything is planned
  local P, Q, R, S = save(p, "p.safetensors"), save(q, "q.safetensors"), save(r, "r.safetensors"), save(s, "s.safetensors")
  for _, set in ipairs { { p, q, r, s }, { P, Q, R, S } } do
    local x, y, other, off = table.unpack(set)
    each(x, y, function(f)
      local m = f(x, y):load()
      check.tensor(m["bn.num_batches_tracked"], { 7 })
      check.tensor(m["mask"], { true, true })
      check.equal(m["bn.num_batches_tracked"].dtype, "i64")
      check.raises("bn.num_batches_tracked (i64) differs between", function() return f(x, other):load() end)
      check.raises("mask (bool) differs between", function() return f(x, off):load() end)
      check.raises('on_integer = "base" takes those of the first model', function() return f(x, other):load() end)
      check.raises("bn.num_batches_tracked (i64) and 1 more integer tensor differ between", function()
        return f(x, counted(9, false, 1)):load()
      end)
      local kept = f(x:with { on_integer = "base" }, other):load()
      check.tensor(kept["bn.num_batches_tracked"], { 7 })
    end)
    check.near(x:norm(), math.sqrt(1 + 4), 1e-12)     -- never in norms
    check.near(x:dot(y), 1 * 3 + 2 * 2, 1e-12)
    check.near(x:norm(1), 3, 1e-12)
    check.tensor((x * 3):load()["bn.num_batches_tracked"], { 7 })
    check.tensor((-x):load()["mask"], { true, true })
    check.tensor(x:cast("f16"):load()["bn.num_batches_tracked"], { 7 })
    check.tensor(x:map(function(t) return t * 0 end):load()["bn.num_batches_tracked"], { 7 })
  end
  check.raises("bn.num_batches_tracked (i64) differs between", function() return (P + R):plan() end) -- before the work
  check.raises("bn.num_batches_tracked (i64) differs", function() return (P + R)["bn.num_batches_tracked"]:load() end)
  check.raises("bn.num_batches_tracked (i64) differs", model.plans, function() (P + R):save "x" end)
  check.tensor(save(merge.linear { P, R, on_integer = "base" }, "i"):load()["bn.num_batches_tracked"], { 7 })
  -- none at all
  local e = model.new { { "w", tensor { 1, 2 } }, { "n", tensor.zeros({ 0 }, { dtype = "i64" }) } }
  local E = save(e, "e.safetensors")
  check.equal((0.5 * E + 0.5 * save(e, "e2.safetensors")):load().n:numel(), 0)

  -- one parameter under two names
  local function llama(name, head, tied, at)
    local list = { { "model.embed_tokens.weight", tensor { { at, 1 }, { 2, 3 } } },
      { "model.layers.0.mlp.up_proj.weight", tensor { { 1, at } } } }
    if head then list[#list + 1] = { "lm_head.weight", tensor { { head, 1 }, { 2, 3 } } } end
    model.new(list):save(folder(name))
    local f = assert(io.open(folder(name) .. "/config.json", "w"))
    f:write(([[{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": %s}]]):format(tied))
    f:close()
    return model.open(folder(name))
  end
  local t1, t2 = llama("t1", nil, true, 0), llama("t2", 4, true, 4)
  local u1, u2 = llama("u1", 8, false, 0), llama("u2", 4, false, 4)
  check.equal(#t1:structure().tied, 1)
  check.equal(t1:structure().tied[1].stored, false)
  check.equal(t2:structure().tied[1].stored, true)
  for _, w in ipairs { { t1, t2 }, { t1:load(), t2:load() }, { t1, t2:load() } } do
    local m = (0.5 * w[1] + 0.5 * w[2]):load()     -- both tied: one slot, written once
    check.equal(m:names(), t1:names())
    check.tensor(m["model.embed_tokens.weight"], { { 2.0, 1.0 }, { 2.0, 3.0 } })
    m = (0.5 * w[2] + 0.5 * w[1]):load()           -- the first has written both out: once all the same
    check.equal(m:names(), t1:names())
    check.tensor(m["model.embed_tokens.weight"], { { 2.0, 1.0 }, { 2.0, 3.0 } })
    m = merge.dare_linear { base = w[2], w[1], w[2], density = 0.5 }:load()
    check.equal(m:names(), t1:names())
  end
  check.tensor((0.5 * u1 + 0.5 * t1):load()["lm_head.weight"], { { 4.0, 1.0 }, { 2.0, 3.0 } })
  check.raises("lm_head.weight", function() return t1 + u1 end) -- a head of its own finds no place
  check.tensor((0.5 * u1 + 0.5 * u2):load()["lm_head.weight"], { { 6.0, 1.0 }, { 2.0, 3.0 } })
end
