-- SPDX-License-Identifier: Apache-2.0
-- Dropout stability by hand, and the path that it gives: flat for networks with planted spare halves, flat wherever
-- only free weights move, nowhere above the dropped networks where the theorem holds.
local check = dofile "tests/stdlib/bind/check.lua"

local function same(a, b) return (a - b):norm():item() == 0 end
local function fine(c) return 8 * (#c.points - 1) + 1 end

-- A network in f64 on data drawn at random, as hard as can be.
local x = tensor.randn({ 40, 5 }, 1, { dtype = "f64" })
local d = { x = x, y = tensor.randint(0, 3, { 40 }, 2) }
local net = nn.mlp { 5, 12, 9, 8, 3 }
local function wild(seed) return (net:init { seed = seed }:cast "f64":load() * 1.7):load() end
local f = net:loss(d)

-- The pieces in which only free weights move, or units are copied and read elsewhere.
local flat = { ["write above"] = true, ["copy units"] = true, ["read the copies"] = true, ["write b"] = true,
  ["clear a"] = true }
local function flat_pieces(c, p, tolerance)
  local n, seen = 8, 0
  for k, what in ipairs(c.steps) do
    local kind = what:gsub("^back: ", "")
    for name in pairs(flat) do
      if kind:sub(1, #name) == name then
        seen = seen + 1
        for i = (k - 1) * n + 2, k * n + 1 do check.near(p.loss[i], p.loss[(k - 1) * n + 1], tolerance, what) end
      end
    end
  end
  return seen
end

-- By the theorem: for any two networks, however bad.
do
  local a, b = wild(1), wild(2)
  local c = probe.dropout_path(f, a, b, { tries = 2 })
  check.equal(table.concat(c.steps, ", "), "drop fc3, write above fc2, drop fc2, write above fc1, drop fc1, copy units, "
    .. "read the copies, write b, change to b, clear a, back: drop fc1, back: write above fc1, back: drop fc2, "
    .. "back: write above fc2, back: drop fc3")
  assert(same(c(0), a) and same(c(1), b))
  local p = c:path(f, { points = fine(c) })
  check.equal(flat_pieces(c, p, 1e-12), 2 + 2 + 1 + 1 + 2)
  assert(p.statistics.loss.max <= c.bound + 1e-12, "above the bound")
  check.near(p.loss[1], f(a), 1e-12)
  check.near(p.loss[#p.loss], f(b), 1e-12)
  -- Knots after each drop are the networks whose loss the stability tells.
  for k, at in ipairs { 2, 4, 6 } do
    check.near(p.loss[(at - 1) * 8 + 1], c.stability_a.rows[k].loss, 1e-12)
    check.near(p.loss[#p.loss - (at - 1) * 8], c.stability_b.rows[k].loss, 1e-12)
  end
  -- The straight line is no such path.
  assert(probe.path(f, a, b, { points = 65 }) and c.straight > 0)
end

-- Stability by hand: columns of readers zero or doubled.
do
  local a = wild(3)
  local keep = { fc1 = { 2, 3, 5, 7, 11, 12 }, fc2 = { 1, 4, 6, 9 }, fc3 = { 8, 2, 1, 3 } }
  local r = probe.dropout_stability(f, a, { keep = keep, rescale = 2 })
  local readers, mask = { fc1 = "fc2.weight", fc2 = "fc3.weight", fc3 = "fc4.weight" }, {}
  for group, n in pairs { fc1 = 12, fc2 = 9, fc3 = 8 } do
    local row = {}
    for i = 1, n do row[i] = 0.0 end
    for _, u in ipairs(keep[group]) do row[u] = 2.0 end
    mask[readers[group]] = tensor(row, { dtype = "f64" })
  end
  local function by_hand(...)
    local out = {}
    for _, name in ipairs(a:names()) do out[#out + 1] = { name, a:tensor(name) } end
    for _, group in ipairs { ... } do
      for _, pair in ipairs(out) do
        if pair[1] == readers[group] then pair[2] = pair[2] * mask[pair[1]] end
      end
    end
    return f(model.new(out))
  end
  check.near(r.loss, by_hand(), 1e-12)
  check.equal(#r.rows, 3)
  check.near(r.rows[1].loss, by_hand "fc3", 1e-12)
  check.near(r.rows[2].loss, by_hand("fc3", "fc2"), 1e-12)
  check.near(r.rows[3].loss, by_hand("fc3", "fc2", "fc1"), 1e-12)
  check.near(r.rows[2].alone, by_hand "fc2", 1e-12)
  check.near(r.rows[3].alone, by_hand "fc1", 1e-12)
  check.near(r.stability, math.max(0, r.rows[1].loss - r.loss, r.rows[2].loss - r.loss, r.rows[3].loss - r.loss), 1e-12)
  check.equal(r.rows[2].kept, 4)
  assert(tostring(r):find "dropout stability")
  assert(r:plot())
end

-- Planted: units 3, 6, … of one network are all it needs, the others are not read; the second is a moved copy. The
-- loss is the same all along. Then: every unit twice, at half the strength.
do
  local even = nn.mlp { 5, 12, 8, 3 }
  local g = even:loss(d)
  local half = nn.mlp { 5, 6, 4, 3 }:init { seed = 5 }:cast "f64":load()
  local function embedded(at1, at2, junk)
    local whole = even:init { seed = junk }:cast "f64":load()
    local function placed(name, rows, columns, gain)
      local t = whole:tensor(name):totable()
      local own = half:tensor(name):totable()
      if type(t[1]) ~= "table" then
        for i, row in ipairs(rows) do t[row] = own[(i - 1) % #own + 1] end
        return tensor(t, { dtype = "f64" })
      end
      for _, row in ipairs(rows or {}) do
        if columns then
          for c in ipairs(t[row]) do t[row][c] = 0.0 end
        end
      end
      for i, row in ipairs(rows) do
        local source = own[(i - 1) % #own + 1]
        for k = 1, columns and #columns or #source do
          t[row][columns and columns[k] or k] = (gain or 1) * source[(k - 1) % #source + 1]
        end
      end
      return tensor(t, { dtype = "f64" })
    end
    local out, gain = { 1, 2, 3 }, #at1 > 6 and 0.5 or 1
    return model.new { { "fc1.weight", placed("fc1.weight", at1) }, { "fc1.bias", placed("fc1.bias", at1) },
      { "fc2.weight", placed("fc2.weight", at2, at1, gain) }, { "fc2.bias", placed("fc2.bias", at2) },
      { "fc3.weight", placed("fc3.weight", out, at2, gain) }, { "fc3.bias", half:tensor "fc3.bias" } }
  end
  local want = nn.mlp { 5, 6, 4, 3 }:loss(d)(half)
  local a, b = embedded({ 1, 3, 5, 7, 9, 11 }, { 1, 2, 3, 4 }, 8), embedded({ 12, 1, 2, 3, 4, 5 }, { 8, 1, 3, 6 }, 9)
  check.near(g(a), want, 1e-12)
  check.near(g(b), want, 1e-12)
  assert(probe.barrier(g, a, b, { points = 9 }).barrier_loss > 1e-2, "the straight line is not flat")
  local kept = { a = { fc1 = { 1, 3, 5, 7, 9, 11 }, fc2 = { 1, 2, 3, 4 } }, b = { fc1 = { 1, 2, 3, 4, 5, 12 },
    fc2 = { 1, 3, 6, 8 } } }
  for _, keep in ipairs { kept, false } do -- what is dead is also found
    local c = probe.dropout_path(g, a, b, { keep = keep or nil, rescale = 1, tries = 0 })
    check.equal(c.stability_a.keep.fc1, kept.a.fc1)
    check.equal(c.stability_b.keep.fc2, kept.b.fc2)
    local p = c:path(g, { points = fine(c) })
    for k, v in ipairs(p.loss) do check.near(v, want, 1e-12, "point " .. k) end
    check.near(c.bound, want, 1e-12)
  end
  local all1, all2 = { 1, 2, 3, 4, 5, 6, 12, 11, 10, 9, 8, 7 }, { 2, 4, 6, 8, 1, 3, 5, 7 }
  a, b = embedded(all1, all2, 1), embedded({ 2, 4, 6, 8, 10, 12, 1, 3, 5, 7, 9, 11 }, { 1, 2, 3, 4, 8, 7, 6, 5 }, 1)
  check.near(g(a), want, 1e-12)
  local c = probe.dropout_path(g, a, b, { rescale = 2, keep = { a = { fc1 = { 1, 2, 3, 4, 5, 6 }, fc2 = { 2, 4, 6, 8 } },
    b = { fc1 = { 1, 3, 5, 7, 9, 11 }, fc2 = { 1, 2, 3, 4 } } } })
  local p = c:path(g, { points = fine(c) })
  for k, v in ipairs(p.loss) do check.near(v, want, 1e-12, "point " .. k) end
end

-- Convolutions, pooled and flattened: channels are blocks of what the head reads.
do
  local conv = nn.conv { 6, "M", 4, input = { 8, 8, 1 }, classes = 3, hidden = { 7 } }
  local images = { x = tensor.randn({ 12, 8, 8, 1 }, 3), y = tensor.randint(0, 3, { 12 }, 4) }
  local g = conv:loss(images)
  local c = probe.dropout_path(g, conv:init { seed = 1 } * 2, conv:init { seed = 2 } * 2, { tries = 1 })
  local p = c:path(g, { points = fine(c) })
  check.equal(#c.steps, 5 + 5 + 5)
  assert(flat_pieces(c, p, 1e-5) >= 4)
  assert(p.statistics.loss.max <= c.bound + 1e-5)
end

-- A residual network with batch norm: streams and what they feed go together; writing and copying change nothing.
do
  local res = nn.resnet { depth = 8, width = 4, classes = 3, input = { 8, 8, 3 } }
  local images = { x = tensor.randn({ 6, 8, 8, 3 }, 3), y = tensor.randint(0, 3, { 6 }, 4) }
  local g = res:loss(images)
  local c = probe.dropout_path(g, res:init { seed = 1 }, res:init { seed = 2 }, { tries = 0 })
  local p = c:path(g, { points = fine(c) })
  assert(flat_pieces(c, p, 1e-5) >= 8)
  assert(#c.stability_a.rows < #align.groups(res))
end

-- No halves where a norm sees all units.
do
  local gpt = nn.gpt { layers = 1, heads = 2, width = 8, vocab = 11, context = 6 }
  local text = { x = tensor.randint(0, 11, { 4, 6 }, 1) }
  check.raises("act on each other", probe.dropout_stability, gpt:loss(text), gpt:init { seed = 1 }, { tries = 0 })
end

check.raises("net:loss", probe.dropout_stability, function() return 0 end, wild(1))
check.raises("no group is called 'fc9'", probe.dropout_stability, f, wild(1), { keep = { fc9 = { 1 } } })
check.raises("give 1 to 6", probe.dropout_stability, f, wild(1), { keep = { fc1 = { 1, 2, 3, 4, 5, 6, 7 } } })
check.raises("different whole numbers", probe.dropout_stability, f, wild(1), { keep = { fc1 = { 1, 1 } } })
check.raises("rescale", probe.dropout_stability, f, wild(1), { rescale = 0 })
