-- SPDX-License-Identifier: Apache-2.0
-- The report on task vectors: toys by hand, one tensor against another, models in files.
local check = dofile "tests/stdlib/bind/check.lua"
local near = check.near
local f64 = { dtype = "f64" }

local function of(t, v) return model.new { { "w", tensor(t, f64) }, { "b", tensor(v or { 1, 2 }, f64) } } end

-- Orthonormal: two offsets of rank one in different rows and columns.
do
  local base = of { { 1, 2 }, { 3, 4 } }
  local r = probe.task_vectors { base = base, of { { 2, 2 }, { 3, 4 } }, of { { 1, 2 }, { 3, 5 } } }
  near(r.matrix[{ 1, 2 }], 0, 0)
  check.equal(r.whole.norms, { 1.0, 1.0 })
  near(r.whole.ratio[1], 1 / math.sqrt(35), 1e-12)
  near(r.whole.base_norm, math.sqrt(35), 1e-12)
  check.equal(r.whole.sign_agreement, 1.0)
  check.equal(r.whole.conflict, 0.0)
  near(r.effective[1], 1, 1e-12)
  near(r.stable[2], 1, 1e-12)
  near(r.alignment[1], 1, 1e-12)
  near(r.interference, 0, 1e-10)
  assert(tostring(r):find "cosines")
end

-- Signs and overlaps by hand.
do
  local base = of({ { 0, 0 }, { 0, 0 } }, { 0, 0 })
  local a, b = of({ { 1, -2 }, { 3, 0 } }, { 0, 0 }), of({ { 1, 2 }, { 0, 0 } }, { 0, 0 })
  local r = probe.task_vectors { base = base, a, b, top = 0.5, only = "w" }
  local w = r.tensors[1]
  check.equal(#r.tensors, 1)
  near(w.sign_agreement, (1 + 0 + 1) / 3, 1e-12)
  near(w.conflict, 1 / 3, 1e-12)
  near(w.pair_signs[1][2], 1 / 2, 1e-12)
  near(w.overlap[1][2], 1 / 2, 1e-12) -- {3, -2} and {2, 1}: one in common
  near(w.cosines[1][2], (1 - 4) / math.sqrt(14 * 5), 1e-12)
end

-- Ranks of known spectra; the alignment with a given merged model.
do
  local q = tensor.normal({ 6, 6 }, 1, f64):qr()
  local p = tensor.normal({ 6, 6 }, 2, f64):qr()
  local s = tensor({ 4, 2, 2, 0, 0, 0 }, f64)
  local x = (q * s):matmul(p:t())
  local base = model.new { { "w", tensor.normal({ 6, 6 }, 3, f64) } }
  local m, y = base + model.new({ { "w", x } }, { mass = 0 }), (q[{ {}, { 1, 1 } }]):matmul(p[{ {}, { 1, 1 } }]:t())
  local merged = base + model.new({ { "w", y } }, { mass = 0 })
  local r = probe.task_vectors { base = base, m, merged = merged, names = { "one" } }
  near(r.effective[1], math.exp(-(0.5 * math.log(0.5) + 2 * 0.25 * math.log(0.25))), 1e-9)
  near(r.stable[1], 24 / 16, 1e-9)
  near(r.alignment[1], 4 / math.sqrt(24), 1e-9)
  check.equal(r.tensors[1].rank, 1)
  check.equal(r.models[1], "one")
  check.equal(r.interference, nil)
end

-- Files give what memory gives; interference is the method's; half precision, equal models.
do
  local names = { "base", "low", "high" }
  local lazy, there = {}, {}
  for _, name in ipairs(names) do
    lazy[name] = model.open("examples/data/" .. name .. ".safetensors")
    there[name] = lazy[name]:load()
  end
  local r = probe.task_vectors { base = lazy.base, lazy.low, lazy.high }
  local s = probe.task_vectors { base = there.base, there.low, there.high }
  near(r.matrix[{ 1, 2 }], (there.low - there.base):cosine(there.high - there.base), 1e-12)
  near(r.matrix[{ 1, 2 }], s.matrix[{ 1, 2 }], 0)
  near(r.whole.norms[1], (there.low - there.base):norm(), 1e-9)
  local want = merge.task_interference { base = there.base, there.low, there.high, tensors = "matrices" }:load()
  for _, t in ipairs(r.tensors) do
    if t.interference then near(t.interference, want:tensor(t.name):sum(), 1e-6) end
  end
  check.equal(r.models[1], "low")
  local path = os.tmpname()
  r:save(path .. ".csv")
  r:save(path .. ".json")
  for _, ending in ipairs { "", ".csv", ".json" } do os.remove(path .. ending) end
  local base = model.new { { "w", tensor({ { 1, 2 }, { 3, 4 } }, { dtype = "f32" }):cast "bf16" } }
  local same = probe.task_vectors { base = base, base, base }
  near(same.whole.norms[1], 0, 0)
  near(same.matrix[{ 1, 2 }], 0, 0)
  near(same.effective[1], 0, 0)
end

check.raises("expected {base", probe.task_vectors, { base = of { { 1 } } })
