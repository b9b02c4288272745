-- SPDX-License-Identifier: Apache-2.0
-- merge.explain and `tarn plan`: for every tensor the method, every parameter with its value and where
-- it came from, passes and cost; what is only a lower bound says so; an estimate of time on request.
local check = require "check"
local folder <close> = require "folder"()

local data = "examples/data/"
local function digits(name) return model.open(data .. name .. ".safetensors") end
local base, a, b = digits "base", digits "low", digits "high"

local function parameter(t, name, whose)
  for _, p in ipairs(t.parameters) do
    if p.name == name and p.model == whose then return p end
  end
end
local function said(t, name, whose)
  local p = parameter(t, name, whose)
  return { p.value, p.origin }
end

-- ---- every parameter of every tensor ----

do
  local m = merge.linear { a, b, weight = { by.depth { 0.25, 0.75 }, by.name { { "bias", 2 }, { ".", 1 } } } }
  local e = merge.explain { m }
  local of = {}
  for _, t in ipairs(e.tensors) do of[t.name] = t end
  check.equal(#e.tensors, 6)
  check.equal(of["fc2.bias"].method, "linear")
  check.equal(said(of["fc1.bias"], "weight", "low"), { 0.25, "by.depth" })
  check.equal(said(of["fc2.bias"], "weight", "low"), { 0.5, "by.depth" })
  check.equal(said(of["fc3.weight"], "weight", "low"), { 0.75, "by.depth" })
  check.equal(said(of["fc2.bias"], "weight", "high"), { 2.0, "by.name" })
  check.equal(said(of["fc2.weight"], "weight", "high"), { 1.0, "by.name" })
  check.equal(said(of["fc2.weight"], "normalize"), { true, "default" })
  check.equal({ of["fc2.bias"].passes, of["fc2.bias"].reads, of["fc2.bias"].writes }, { 1, 512, 256 })
  check.equal(e.plan.reads, m:plan().reads)
  local text = tostring(e)
  assert(text:find("by #3 linear, weight[low] = 0.5 (by.depth), weight[high] = 2 (by.name):\n    fc2.bias f32[64] <- low, high; "
    .. "1 pass; read 512 B, write 256 B\n", 1, true), text)

  -- values follow a tensor through other names and layers
  e = merge.explain { m:only("fc3"):rename { ["fc3.bias"] = "out.bias", ["fc3.weight"] = "out.weight" }, names = "bias" }
  check.equal(#e.tensors, 1)
  check.equal({ e.tensors[1].name, e.tensors[1].method }, { "out.bias", "linear" })
  check.equal(said(e.tensors[1], "weight", "low"), { 0.75, "by.depth" })
  assert(not tostring(e):find("out.weight", 1, true))
end

-- ---- what a method does otherwise with a tensor ----

do
  local m = merge.iso_c { base = base, a, b, tensors = "matrices" }
  local of = {}
  for _, t in ipairs(merge.explain({ m }).tensors) do of[t.name] = t end
  check.equal({ of["fc1.bias"].note, of["fc1.weight"].note or "" }, { "mean offset: not a matrix", "" })
  assert(tostring(merge.explain { m }):find("by #4 iso_c (mean offset: not a matrix):", 1, true))
end

-- ---- methods in a chain, parts made differently, copies ----

do
  local soup = merge.slerp { a, b, t = 0.3 }
  local m = model.join { merge.ties { base = base, soup, a }:only "fc1", (0.5 * a + 0.5 * b):only "fc2", b:only "fc3" }
  local of = {}
  for _, t in ipairs(merge.explain({ m }).tensors) do of[t.name] = t end
  check.equal({ of["fc1.bias"].method, of["fc2.bias"].method }, { "ties", "join" })
  check.equal({ of["fc1.bias"].copied or "", of["fc3.bias"].copied }, { "", "as it is in the input" })
  check.equal(said(of["fc1.bias"], "t"), { 0.3, "given" })
  check.equal(said(of["fc1.bias"], "density", "slerp"), { 0.2, "default" })
  check.equal(parameter(of["fc2.bias"], "t"), nil)
end
do
  model.new({ { "w", tensor { 1.0, 2 } }, { "n", tensor({ 3 }, { dtype = "i64" }) } }):save(folder "x.safetensors")
  local x = model.open(folder "x.safetensors")
  local t = merge.explain({ merge.linear { x, 2 * x }, names = "^n$" }).tensors[1]
  check.equal({ t.copied, t.method or "none", #t.parameters }, { "integers and bools are not averaged", "none", 0 })
  assert(tostring(merge.explain { merge.linear { x, 2 * x } }):find("by nothing: copied:\n    n i64[1] <- x; copied: integers", 1, true))
end

-- ---- outputs of one computation ----

do
  local m = merge.tsv_c { base = base, a, b }
  local e = merge.explain { m, names = "^fc1.weight" }
  local u, s, vt = table.unpack(e.tensors)
  check.equal({ u.name, s.name, vt.name, s.with, vt.with }, { "fc1.weight.u", "fc1.weight.s", "fc1.weight.vt", u.name, u.name })
  check.equal({ u.with or "", s.reads, vt.reads, s.workspace }, { "", 0, 0, u.workspace })
  assert(u.reads > 0 and u.note == s.note and #s.parameters == #u.parameters)
  local reads, writes = 0, 0
  for _, t in ipairs(m:plan().tensors) do reads, writes = reads + t.reads, writes + t.writes end
  check.equal({ reads, writes }, { e.plan.reads, e.plan.writes })
  check.equal(reads, 3 * 4 * 17226) -- every input once
  assert(tostring(e):find("    fc1.weight.s f32[2, 32] <- base: fc1.weight, low: fc1.weight, high: fc1.weight; with fc1.weight.u; "
    .. "write 256 B", 1, true), tostring(e))
  m:save(folder "parts.safetensors")
  local saved, loaded = model.open(folder "parts.safetensors"), m:load()
  for _, name in ipairs(loaded:names()) do check.tensor(saved[name], loaded[name]:totable()) end
end

-- ---- lower bounds are said to be such ----

do
  for _, case in ipairs { { true, merge.ties { base = base, a, b } }, { false, merge.slerp { a, b } },
    { false, merge.ties { base = base, a, b, trim = "tensor" } } } do -- held in memory: swept there
    local more, m = case[1], case[2]
    local e = merge.explain { m }
    check.equal(e.plan.more, more)
    check.equal(e.tensors[1].more, more)
    check.equal(tostring(e):find("read at least", 1, true) ~= nil, more)
    check.equal(tostring(m):find("at least", 1, true) ~= nil, more)
  end
end
do -- nothing is held: each sweep of a selection in a tensor reads again
  local path = folder "held.lua"
  local file = assert(io.open(path, "w"))
  file:write([[local m = merge.ties { base = model.open "]] .. data .. [[base.safetensors", model.open "]] .. data
    .. [[low.safetensors", trim = "tensor" }
  print(m:plan().more, m:plan().tensors[2].more) m:save "]] .. folder "planned" .. '"')
  file:close()
  local code, out, err = folder.tarn("--hold 1K " .. path)
  check.equal({ code, out, err }, { 0, "true\ttrue\n", "" })
  code, out, err = folder.tarn("plan --hold 1K --json " .. path)
  check.equal(code, 0, err)
  local d = yaml.read(out:match "%b{}", "plan") -- JSON is YAML; the first line is the script's own
  check.equal({ d.more, d.tensors[2].name, d.tensors[2].more, d.tensors[2].method }, { true, "fc1.weight", true, "ties" })
  check.equal({ d.tensors[2].parameters[2].name, d.tensors[2].parameters[2].value, d.tensors[2].parameters[2].origin },
    { "density", 0.2, "default" })
  check.equal(d.plan.nodes[3].method, "ties")
  code, out = folder.tarn("plan --names 'fc3.b' " .. path)
  check.equal(code, 0)
  assert(out:find("    fc3.bias f32[10] <- base, low; 2 passes in memory", 1, true) and not out:find "fc1", out)
end

-- ---- time ----

do
  local m = merge.ties { base = base, a, b }
  check.equal(m:plan().time, nil)
  local t = merge.explain({ m, time = folder "not/yet.safetensors" }).plan.time
  check.near(t.seconds, t.reading + t.running + t.writing + t.hashing, 1e-9)
  for _, key in ipairs { "read_rate", "run_rate", "write_rate" } do assert(t[key] > 0, key) end
  assert(t.seconds < 60 and t.sampled > 0 and t.sampled <= 1 + 1e-9)
  assert(tostring(m:plan { time = true }):find("\n  about .*passes .*/s, output .*/s%)\n"))
  check.raises("cannot try how fast it is written", m.plan, m, { time = "/proc/x" })
  local code, out = folder.tarn("plan --measure --json --brief " .. folder "held.lua")
  check.equal(code, 0)
  local d = yaml.read(out:match "%b{}", "plan")
  assert(d.time.seconds > 0 and d.tensors == nil)
  check.raises("needs the values of files, and this run only plans", model.plans, function() m:plan { time = true } end)
end

check.raises("merge.explain: unknown option 'nmes'; did you mean 'names'?", merge.explain, { a, nmes = "x" })
check.raises("merge.explain: expected { model", merge.explain, a)
