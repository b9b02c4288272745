-- SPDX-License-Identifier: Apache-2.0
-- Plans: what they say (rule 6: passes), that they depend on names and parameters alone, that they
-- execute again to the same bytes, and that a hostile one is an error.
local check = require "check"
local folder <close> = require "folder"()

local data = "examples/data/"
local function digits(name) return model.open(data .. name .. ".safetensors") end
local base, a, b, c = digits "base", digits "low", digits "high", digits "twin"
local where = { input = { base = data .. "base.safetensors", low = data .. "low.safetensors",
  high = data .. "high.safetensors", twin = data .. "twin.safetensors" } }

-- A safetensors file made of nothing but this metadata and one f32 tensor of one element.
local function quoted(s) return (s:gsub('[%c"\\]', function(ch) return ("\\u%04x"):format(ch:byte()) end)) end
local function write_plan(path, plan, inputs)
  local header = ('{"__metadata__":{"tarn_plan":"%s","tarn_inputs":"%s"},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}')
    :format(quoted(plan), quoted(inputs or "[]"))
  header = header .. (" "):rep(-#header % 8)
  local file = assert(io.open(path, "wb"))
  file:write(string.pack("<I8", #header), header, "\0\0\0\0")
  file:close()
end

-- ---- what a plan says ----

do
  local m = merge.ties { base = base, a, b, weight = { 0.6, 0.4 }, density = 0.3 }
  local p = m:plan()
  check.equal(p.passes, 2)
  check.equal(p.writes, 68904)
  check.equal(p.reads, 2 * 3 * 68904) -- a global selection reads twice, and again where equals straddle the cut
  check.equal(p.more, true)
  check.equal(p.mass, 1.0)
  check.equal(#p.tensors, 6)
  check.equal({ p.tensors[1].name, p.tensors[1].dtype, p.tensors[1].from[1] }, { "fc1.bias", "f32", "base: fc1.bias" })
  check.equal(#p.inputs, 3)
  local text, full = tostring(p), p:show(true)
  for _, line in ipairs { "6 tensors, 2 passes, read at least 413.4 kB, write 68.9 kB, peak memory",
    "an exact selection sweeps again where many values are equal", "ties(base, low, high)",
    "weight[low] = 0.6 (given)", "weight[high] = 0.4 (given)", "density[low] = 0.3 (given)", "lambda = 1 (default)",
    "trim = global (default)" } do
    assert(text:find(line, 1, true), line .. " is not in:\n" .. text)
  end
  assert(full:find("fc1.bias f32[128] <- base, low, high; 2 passes", 1, true), full)
  local ramp = merge.linear({ a, b, weight = { by.depth { 0, 1 }, 1 } }):plan():show(true)
  assert(ramp:find("weight[low] = 0 … 1 by tensor (by.depth)", 1, true), ramp)
  assert(ramp:find("  by #3 linear, weight[low] = 0.5 (by.depth):\n    fc2.bias f32[64] <- low, high; 1 pass; "
    .. "read 512 B, write 256 B\n    fc2.weight", 1, true), ramp)
  assert(tostring((a - b):plan()):find("mass 0: this is a vector, not a model", 1, true))
  assert(tostring(a:cast("bf16"):plan()):find("dtype = bf16", 1, true))
  check.equal(a:plan({ dtype = "bf16" }).writes, 34452)
  check.raises("did you mean 'dtype'?", a.plan, a, { dtyp = "f32" })

  -- rule 6: passes
  for n, m in pairs { [1] = a + 0.4 * (b - a), [2] = merge.slerp { a, b }, [3] = merge.map { a, apply = function(t)
    local d = t[1] - t[1]:mean()
    return d / (d * d):sum():sqrt()
  end } } do
    check.equal(m:plan().passes, n)
  end
  check.equal(merge.slerp({ merge.slerp { a, b }, c }):plan().passes, 3)
  check.equal(merge.slerp({ a, b }):plan().tensors[1].held, true) -- read once, swept in memory
  check.equal(merge.slerp({ a, b }):plan().reads, 2 * 68904)
  check.equal((a + a):plan().reads, 68904)

  -- every input tensor is accounted for
  p = merge.linear({ a, b:only "weight", missing = "drop" }):plan()
  check.equal(p.inputs[1].unused, { "fc1.bias", "fc2.bias", "fc3.bias" })
  assert(tostring(p):find("3 names dropped by policy", 1, true), tostring(p))
  check.equal(model.join({ a:only "fc1", b:only "fc[23]" }):plan().tensors[1].from, { "low: fc1.bias" })
end

-- ---- canonical ----

do
  -- the same tensors in one file, in shards, and in the opposite order of names in the file
  local function build(x, y)
    return {
      x + 0.3 * (y - x), merge.ties { base = x, y, weight = by.depth { 0.2, 1 } }, x:only "fc[12]", by.name { { "bias", 2 }, { ".", 1 } } * x,
      x:slice("fc1.weight", 2, 5), x:rename(function(n) return "net." .. n end), x:cast "bf16" * 0.5,
      model.join { x:only "fc2", y:only "fc[13]" }, merge.map { x, y, apply = function(t, _, n) return t[1] * #n + t[2] end },
    }
  end
  check.raises("max_shard_size is a number of bytes, at least 1", a.save, a, folder "shards", { max_shard_size = 0 })
  a:save(folder "shards", { max_shard_size = 20000 })
  assert(#model.open(folder "shards"):files() > 2)
  local order = { "fc3.bias", "fc1.weight", "fc2.bias", "fc3.weight", "fc1.bias", "fc2.weight" }
  local header, blob, at = {}, {}, 0
  for i, name in ipairs(order) do
    local t = a[name]:load()
    local raw = {}
    local flat = t:reshape(-1):totable()
    for k, v in ipairs(flat) do raw[k] = string.pack("<f", v) end
    blob[i] = table.concat(raw)
    header[i] = ('"%s":{"dtype":"F32","shape":[%s],"data_offsets":[%d,%d]}'):format(name, table.concat(t.shape, ","), at, at + #blob[i])
    at = at + #blob[i]
  end
  local text = "{" .. table.concat(header, ",") .. "}"
  text = text .. (" "):rep(-#text % 8)
  local file = assert(io.open(folder "order.safetensors", "wb"))
  file:write(string.pack("<I8", #text), text, table.concat(blob))
  file:close()
  local paths = { data .. "low.safetensors", folder "shards", folder "order.safetensors" }
  local plans = {}
  for k, path in ipairs(paths) do
    local x = model.open(path, { label = "x" })
    plans[k] = build(x, model.open(data .. "high.safetensors"))
  end
  check.equal(model.open(paths[3]):names(), order)
  for i = 1, #plans[1] do
    local first = plans[1][i]:plan().json
    for k = 2, #paths do
      check.equal(plans[k][i]:plan().json, first, "plan " .. i .. " of " .. paths[k])
      plans[k][i]:save(folder "out.safetensors", { overwrite = true })
      local same, report = model.replay(folder "out.safetensors", { input = { x = paths[1], high = data .. "high.safetensors" } })
      check.equal(same, true, report) -- and the inputs may lie elsewhere, sharded otherwise
    end
  end
  -- a file opened twice is one input
  local once, twice = digits "low", digits "low"
  check.equal((once + twice):plan().json, (once + once):plan().json)
  check.equal(#(once + twice):plan().inputs, 1)
  assert(tostring((once + twice):plan()):find("add(low, low)", 1, true))
end

-- ---- replay ----

do
  local function replays(m, options)
    m:save(folder "re", { overwrite = true, dtype = options and options.dtype })
    local same, report = model.replay(folder "re") -- by the hints of the provenance
    check.equal(same, true, report)
    return folder.text "re/tarn-provenance.json"
  end
  for _, m in ipairs { a, -a, 2 - a, a / 3, a * math.huge * 0 == nil and a or a / math.huge, a * -0.0 + b,
    merge.karcher { a, b, c, weight = { 1, 2, 3 } }, merge.model_stock { base = base, a, b, c },
    merge.dare_ties { base = base, a, b, seed = 7, density = { 0.3, 0.6 }, rescale = "l1" },
    merge.task_arithmetic { base = base, a, lambda = by.layer { { 1, 2, 0.5 }, other = 1 } },
    merge.slerp { a, b, t = by.name { { "bias", 0 }, { ".", 1 } } }, merge.linear { a, b:only "weight", missing = "base", weight = by.depth { 1, 0.5 } },
    merge.linear { a, b:only "weight", missing = "drop", weight = by.depth { 1, 0.5 } }, (a - base):only "fc1" + b,
    merge.ties { base = base, a, b }:stage() + 0.5 * (a - b) } do
    replays(m)
  end
  local provenance = replays(a + 0.5 * (b - a), { dtype = "bf16" })
  assert(provenance:find('"label": "low"', 1, true) and provenance:find('"replayable": true', 1, true))

  -- two inputs of one name are told apart, also by --input
  for _, k in ipairs { "1", "2" } do
    assert(os.execute(("mkdir '%s' && cp %s%s.safetensors '%s/model.safetensors'"):format(folder("d" .. k), data,
      k == "1" and "low" or "high", folder("d" .. k))))
  end
  local x = model.open(folder "d1", { label = "m" })
  local y = model.open(folder "d2", { label = "m" })
  replays(0.9 * x + 0.1 * y)
  assert(folder.text "re/tarn-provenance.json":find('"label": "m#2"', 1, true))
  check.equal(model.replay(folder "re", { input = { m = folder "d1", ["m#2"] = folder "d2" } }), true)
  check.raises("is not the input 'm' of the plan: its contents differ", model.replay, folder "re",
    { input = { m = folder "d2" } })
  check.raises("is not the input 'm' of the plan: its tensors", model.replay, folder "re",
    { input = { m = "tests/golden/store/valid/scalars.safetensors" } })
  check.raises("no such file", model.replay, folder "re", { input = { m = folder "gone" } })

  -- changed bytes are found and named
  ;(a + 0.5 * (b - a)):save(folder "one.safetensors")
  check.raises("where is the input 'low'? Give --input low=PATH", model.replay, folder "one.safetensors")
  check.equal(model.replay(folder "one.safetensors", where), true)
  local file = assert(io.open(folder "one.safetensors", "r+b"))
  file:seek("end", -1)
  file:write "\1"
  file:close()
  local same, report = model.replay(folder "one.safetensors", where)
  check.equal(same, false)
  check.equal(report, "fc3.weight: other bytes\n")
  check.raises("holds no plan", model.replay, data .. "low.safetensors")
  check.raises("input = { NAME = PATH, … }", model.replay, folder "one.safetensors", { input = { 3 } })
  check.raises("did you mean 'input'?", model.replay, folder "one.safetensors", { inputs = {} })
  ;(a:load() + b):save(folder "held.safetensors")
  check.raises("tensors that were in memory", model.replay, folder "held.safetensors", where)

  -- the command
  local code, out, err = folder.tarn(("replay '%s' --input low=%slow.safetensors --input high=%shigh.safetensors"):format(
    folder "one.safetensors", data, data))
  check.equal(code, 1)
  check.equal(out, "fc3.weight: other bytes\n" .. folder "one.safetensors" .. ": different\n")
  code = folder.tarn(("replay '%s'"):format(folder "re"))
  check.equal(code, 0)
  code, _, err = folder.tarn(("replay '%s'"):format(folder "one.safetensors"))
  check.equal(code, 2)
  assert(err:find("where is the input", 1, true), err)
  check.equal(folder.tarn(("replay '%s' --input low"):format(folder "one.safetensors")), 2)
end

-- ---- tarn plan ----

do
  local file = assert(io.open(folder "soup.lua", "w"))
  file:write(([[
local base = model.open "%sbase.safetensors"
local m = merge.ties { base = base, model.open "%slow.safetensors", density = tonumber(arg[1]) }
m:save(arg[2])
assert(#arg == 2 and arg[0]:find "soup.lua")
;(m - base):save "second"]]):format(data, data))
  file:close()
  local code, out, err = folder.tarn(("plan '%s' 0.25 '%s'"):format(folder "soup.lua", folder "never"))
  check.equal(code, 0, err)
  for _, line in ipairs { "plan of " .. folder "never", "density[low] = 0.25 (given)", "plan of second", "mass 0",
    "fc1.bias f32[128] <- base, low; 2 passes" } do
    assert(out:find(line, 1, true), line .. "\n" .. out)
  end
  check.equal(io.open(folder "never"), nil)
  code, out = folder.tarn(("plan --json --brief '%s' 0.25 '%s'"):format(folder "soup.lua", folder "never"))
  check.equal(code, 0)
  assert(out:find('"passes":2,"barriers":1,"reads":275616', 1, true), out)
  code, _, err = folder.tarn(("plan '%s' 2 x"):format(folder "soup.lua"))
  check.equal(code, 1)
  assert(err:find("soup.lua:2: merge.ties: density = 2 of low is outside 0 to 1", 1, true), err)
  code, out = folder.tarn(("plan '%s'"):format("tests/stdlib/bind/check.lua"))
  check.equal({ code, out }, { 0, "tests/stdlib/bind/check.lua saves nothing\n" })
end

-- ---- large and deep ----

do
  local m = a
  for _ = 1, 60 do m = 0.5 * (m + m) end -- 2^60 paths, 121 nodes
  check.equal(#m:plan().nodes, 121)
  m:save(folder "dag.safetensors")
  check.equal(model.replay(folder "dag.safetensors", where), true)
  m = a
  check.raises("more than 4096 operations on top of each other", function()
    for _ = 1, 5000 do m = m + b end
  end)
  check.equal(#m:plan().tensors, 6)
  m = a
  for _ = 1, 4000 do m = -m end
  m:only("fc3.bias"):save(folder "deep.safetensors")
  check.equal(model.replay(folder "deep.safetensors", where), true)
  m = nil
  collectgarbage()
  local held = a:load()
  for _ = 1, 5000 do held = held * 1 end -- values, no chain
  check.equal((held - a):norm(), 0.0)
end

-- ---- hostile ----

do
  local good = merge.map { merge.ties { base = base, a, b, weight = by.depth { 0, 1 } }:slice("fc1.weight", 1, 3):cast "f64",
    apply = function(t) return (2 * t[1] + t[1]:mean()):clamp(-1, 1) end }:only("fc1"):rename { ["fc1.bias"] = "w" }:plan().json
  local path = folder "hostile.safetensors"
  local function said(plan, inputs)
    write_plan(path, plan, inputs)
    local ok, result = pcall(model.replay, path, where)
    return ok and tostring(result) or tostring(result)
  end
  local function nodes(list)
    return ('{"tarn":"plan","format":1,"nodes":[%s],"dtype":null,"allow_nonfinite":false}'):format(list)
  end
  check.equal(said(good), "false") -- it runs, and the file holds something else
  for _, case in ipairs {
    { "", "plan: " }, { "{", "plan: " }, { "[]", "this is no plan" }, { '{"tarn":"recipe"}', "this is no plan" },
    { '{"tarn":"plan","format":2,"nodes":[]}', "a format that this program does not know" },
    { '{"tarn":"plan","format":1,"nodes":[],"dtype":16,"allow_nonfinite":false}', "dtype is a text or null" },
    { '{"tarn":"plan","format":1,"nodes":[],"dtype":null,"allow_nonfinite":0}', "allow_nonfinite true or false" },
    { '{"tarn":"plan","format":1,"nodes":[],"dtype":null,"allow_nonfinite":false,"threads":2}', "the plan holds 'threads'" },
    { nodes "", "0 nodes" }, { nodes "1", "a node without a name" },
    { nodes '{"node":"nothing","in":[]}', "0 operands" }, { nodes '{"node":"nothing","in":[0]}', "does not come before it" },
    { nodes '{"node":"tensors"}', "in memory" }, { nodes '{"node":"input"}', "without label, number of tensors or header" },
    { nodes '{"node":"input","label":"low","tensors":6,"header":"00"}', "is not the input 'low'" },
    { nodes '{"node":"input","label":"low","tensors":6,"header":"00","path":"x"}', "an input holds 'path'" },
    { nodes '{"node":"input","label":"nowhere","tensors":6,"header":"00"}', "where is the input 'nowhere'" },
    { nodes(("["):rep(100000)), "plan: " },
  } do
    local text = said(case[1])
    assert(text:find(case[2], 1, true), case[2] .. " is not in " .. text)
  end
  for _, case in ipairs {
    { '"ties"', '"tise"', "no method 'tise'" }, { '"method":"ties","version":1', '"method":"ties","version":9', "version 9 of ties" },
    { '"name":"lambda"', '"lam":1,"name":"lambda"', "lambda holds 'lam'" }, { '"operation":"mul"', '"operation":"mul","c":1', "holds 'c'" },
    { '"node":"cast"', '"node":"cats"', "unknown node 'cats'" }, { '"text":"f64"', '"text":"i64"', "no floating dtype" },
    { '"name":"count","number":3', '"name":"count","number":300', "which has 128" },
    { '"name":"count","number":3', '"name":"count","number":-3', "bad range" },
    { '"tensor":"fc1.weight"', '"tensor":"fc9.weight"', "no tensor fc9.weight" },
    { '"operation":"where"', '"operation":"whree"', "unknown operation" }, { '"operation":"where"', '"operation":"source"', "plan: " },
    { '"operation":"where"', '"operation":"input"', "plan: " }, { '"operation":"sum"', '"operation":"kth"', "" },
    { '"operand":0', '"operand":7', "belongs to no operand" }, { '"operand":0', '"operand":-1', "belongs to no operand" },
    { '"shape":%[128%]', '"shape":[129]', "another shape" }, { '"shape":%[128%]', '"shape":[-1]', "" },
    { '"which":%[0', '"which":[99', "names no expression" }, { '"which":%[0', '"which":[0,0', "does not fit" },
    { '"roots":%[%d+', '"roots":[9999', "a root that is no node" }, { '"number":2', '"number":"two"', "a number that is none" },
    { '"names":%["fc1.bias"', '"names":["fc7.bias"', "no tensor fc7.bias" }, { '"missing":"error"', '"missing":"maybe"', "missing = 'maybe'" },
    { '"allow_nonfinite"', '"dtype":3,"allow_nonfinite"', "plan: " }, { '"number":1', '"number":[1]', "" },
    { '"density","model":0', '"density","model":9', "density of model 9" }, { '"density"', '"densty"', "did you mean 'density'" },
  } do
    local plan, n = good:gsub(case[1], case[2], 1)
    check.equal(n, 1, case[1])
    local text = said(plan)
    assert(text:find(case[3], 1, true), case[1] .. ": " .. case[3] .. " is not in " .. text)
  end
  for _, inputs in ipairs { "", "{" } do
    assert(said(good, inputs):find("list of inputs cannot be read", 1, true))
  end
  for _, inputs in ipairs { "[1]", '[{"label":3}]', '[{"label":"low","digest":null}]' } do
    check.equal(said(good, inputs), "false")
  end
  assert(said(good, '[{"label":"low","digest":"00"}]'):find("its contents differ", 1, true))
  -- bytes cut off and changed anywhere: an error or an answer
  local state = 1
  local function random(n)
    state = (state * 6364136223846793005 + 1442695040888963407)
    return (state >> 33) % n + 1
  end
  for _ = 1, 150 do
    local plan = good
    for _ = 1, random(3) do
      local k = random(#plan)
      plan = plan:sub(1, k - 1) .. ('0129-"{}[],:ae.'):sub(random(15)):sub(1, 1) .. plan:sub(k + random(2) - 1)
    end
    said(plan)
  end
end
