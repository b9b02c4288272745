-- SPDX-License-Identifier: Apache-2.0
-- tarn doctor and model.recall: every sign of trouble shows in a merge that is made to have it, first
-- among its signs, and none in a healthy one; what was copied or dropped; inputs that moved.
local check = require "check"
local doctor = require "doctor.signs"
local folder <close> = require "folder"()

local function vector(n, seed) return tensor.normal({ n }, seed) end
local function saved(name, t)
  local path = folder(name .. ".safetensors")
  model.new(t):save(path)
  return model.open(path)
end

-- A family: two fine-tunes of a base, steps of a tenth of its size in unrelated directions.
local N = 8192
local w, p, q = vector(N, 1), vector(N, 2), vector(N, 3)
local function near_base(name, step) return saved(name, { { "w", w + 0.1 * step } }) end
local base = saved("base", { { "w", w } })
local a, b = near_base("a", p), near_base("b", q)
local twin = near_base("twin", p + 0.2 * q)
local against = near_base("against", -1 * p)
local stranger, other = saved("stranger", { { "w", p } }), saved("other", { { "w", q } })
local tiny = near_base("tiny", 0.001 * p)

local function signs_of(m, options)
  local o = { m }
  for key, v in pairs(options or {}) do o[key] = v end
  local found = doctor.diagnose(merge.report(o))
  return found[1] and found[1].signs or {}
end

local function merged(x, y, options)
  local o = { base = base, x, y }
  for key, v in pairs(options or {}) do o[key] = v end
  return merge.task_arithmetic(o)
end

for _, case in ipairs {
  { "far from base", merged(a, stranger, { weight = 0.5 }) },
  { "overcounted", merged(a, twin) },
  { "grown", merged(a, b, { lambda = 12 }), 2 },
  { "shrunk", merge.linear { stranger, other } },
  { "against a model", merged(a, b, { weight = { 1, -1 } }) },
  { "lost to rounding", merged(tiny, a, { weight = { 1, 0 } }), 1, { dtype = "bf16" } },
  { "faint", merged(a, b, { lambda = 0.1 }) },
  { "untouched", merged(a, b, { lambda = 0 }) },
  { "one model alone", merge.linear { a, b, weight = { 1, 0 } } },
  { "opposed", merged(a, against, { weight = { 1, 0.1 } }) },
  { "sign conflict", merged(a, against, { weight = { 1, 0.1 } }), 2 },
  { "lopsided", merged(a, tiny, { weight = 0.9 }) },
  { "not finite", saved("x", { { "w", w } }) + math.huge * (a - base) - math.huge * (b - base) },
} do
  local name, m, at, options = table.unpack(case, 1, 4)
  local found = signs_of(m, options)
  local words = {}
  for k, s in ipairs(found) do words[k] = s.sign .. " " .. s.seen end
  check.equal((found[at or 1] or {}).sign, name, table.concat(words, "; "))
end
for _, m in ipairs { merged(a, b), merged(a, b, { weight = 0.5 }), merge.slerp { a, b }, merge.linear { a, b },
  merge.ties { base = base, a, b, density = 0.5 }, merge.karcher { stranger, other }, merge.model_stock { base = base, a, twin } } do
  local found = signs_of(m)
  check.equal(#found, 0, found[1] and found[1].sign .. " " .. found[1].seen)
end

-- ---- directions: steps of rank 4, some of them the same ----

do
  local n, m = 300, 48
  local function low(rank, seed)
    return 0.02 * tensor.normal({ n, rank }, seed):matmul(tensor.normal({ rank, m }, seed + 1))
  end
  local center, one, two = tensor.normal({ n, m }, 31), low(4, 40), low(4, 50)
  local root = saved("root", { { "w", center } })
  local left, right = saved("left", { { "w", center + one } }), saved("right", { { "w", center + two } })
  local alike = saved("alike", { { "w", center + one + 0.1 * low(4, 60) } })
  local function spectrum_of(m_)
    m_:save(folder "s.safetensors", { overwrite = true })
    local stored = model.open(folder "s.safetensors")
    local report = merge.report { m_, of = stored }
    doctor.add_spectra(report, m_:plan(), stored, 24)
    return report.tensors[1].spectrum, doctor.diagnose(report)[1]
  end
  local s, found = spectrum_of(merge.task_arithmetic { base = root, left, right })
  check.near(s.rank, s.ranks[1] + s.ranks[2], 0.5) -- unrelated directions lie side by side
  assert(s.ranks[1] > 3.5 and s.ranks[1] <= 4.0001, s.ranks[1])
  check.equal({ s.shared, s.held or "nothing", found or "healthy", s.rows }, { 0.0, "nothing", "healthy", 256 })
  s, found = spectrum_of(merge.task_arithmetic { base = root, left, alike, lambda = 0.9 })
  check.near(s.held, 1.8, 0.05)
  check.equal(s.shared, 1.0)
  local words = {}
  for _, sign in ipairs(found.signs) do words[sign.sign] = true end
  assert(words["shared directions"] and words.overcounted)
  local wide = saved("wide", { { "w", center + 0.1 * tensor.normal({ n, m }, 70) } })
  s, found = spectrum_of(merge.svd_truncate { base = root, wide, rank = 2 })
  check.near(s.rank, 2, 0.05)
  assert(s.ranks[1] > 30 and s.shared == 0)
  words = {}
  for _, sign in ipairs(found.signs) do words[sign.sign] = true end
  assert(words["few directions"])
end

-- ---- the command ----

local function digits(name) return model.open("examples/data/" .. name .. ".safetensors") end
do
  local m = merge.task_arithmetic { base = digits "base", digits "low", digits "twin", lambda = 1.5 }
  m:save(folder "bad", { dtype = "bf16" })
  local again, dtype = model.recall(folder "bad")
  check.equal({ again:plan().json, dtype }, { m:plan().json, "bf16" })
  local code, out, err = folder.tarn("doctor --quiet " .. folder "bad")
  check.equal({ code, err }, { 0, "" })
  for _, text in ipairs { "6 of 6 tensors show signs of trouble, the worst first:\n 1. fc", ": far from base: twin is 1.6",
    "    A fine-tuned model stays near its base.", "    Also: ", "In all tensors: far from base in 6",
    "task_arithmetic of low, twin; offsets from base: 6 tensors\n", "\n  layer 2 " } do
    assert(out:find(text, 1, true), text .. " is not in:\n" .. out)
  end
  check.equal(out:find("\n  fc1.weight ", 1, true), nil)
  assert(select(2, folder.tarn("doctor --all --quiet " .. folder "bad")):find("\n  fc1.weight ", 1, true))
  code, out = folder.tarn("doctor --json " .. folder "bad")
  local d = yaml.read(out, "doctor")
  check.equal({ code, #d.findings, d.findings[1].signs[1].sign, #d.report.tensors, #d.copied }, { 0, 6, "far from base", 6, 0 })
  assert(d.report.whole.rounding.changed > 0.9)
  check.equal({ #d.spectra, d.spectra[1].tensor }, { 2, "fc1.weight" }) -- fc3 has but ten rows
  assert(d.spectra[1].rank > 5 and #d.spectra[1].ranks == 2)
  d = yaml.read(select(2, folder.tarn("doctor --json --no-rerun " .. folder "bad")), "doctor")
  check.equal(d.report.whole.rounding, nil)
end
do -- copies, leftovers, a tensor that somebody took away, inputs that moved
  local function write(name, seed, more)
    local t = { { "w", vector(64, seed) }, { "n", tensor({ 3 }, { dtype = "i64" }) } }
    if more then t[3] = { "extra", vector(4, 9) } end
    return saved(name, t)
  end
  local x, y = write("mx", 21), write("my", 22, true)
  merge.linear({ x, y, missing = "drop" }):save(folder "mixed.safetensors")
  local code, _, err = folder.tarn("doctor " .. folder "mixed.safetensors")
  check.equal(code, 1)
  assert(err:find("where is the input 'mx'? Give --input mx=PATH", 1, true), err)
  assert(os.rename(folder "my.safetensors", folder "moved.safetensors"))
  local inputs = " --input mx=" .. folder "mx.safetensors" .. " --input my=" .. folder "moved.safetensors "
  local out
  code, out, err = folder.tarn("doctor --quiet" .. inputs .. folder "mixed.safetensors")
  check.equal({ code, err }, { 0, "" })
  assert(out:find("1 tensor copied, not merged: n\n", 1, true), out)
  assert(out:find("1 tensor of my went nowhere: extra\n", 1, true), out)
  check.equal(folder.tarn("doctor --input mx " .. folder "mixed.safetensors"), 2)
  code, _, err = folder.tarn("doctor --input mx=" .. folder "moved.safetensors" .. " " .. folder "mixed.safetensors")
  check.equal(code, 1)
  assert(err:find("is not the input 'mx' of the plan", 1, true), err)
  code, _, err = folder.tarn "doctor examples/data/base.safetensors"
  check.equal(code, 1)
  assert(err:find("holds no plan", 1, true), err)
end
