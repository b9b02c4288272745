-- SPDX-License-Identifier: Apache-2.0
-- Similarity of representations against stored values, identities, and networks.
local check = dofile "tests/stdlib/bind/check.lua"
local decode = require "json.decode".decode
local f64 = { dtype = "f64" }

local function near(what, got, want, most)
  if want == nil then return end
  assert(math.abs(got - want) <= most, ("%s: got %.17g, want %.17g"):format(what, got, want))
end

-- ---- stored values ----

do
  local file <close> = io.open "tests/golden/similarity/sim.json"
  local cases = decode(file:read "a")
  local m, done = model.load "tests/golden/similarity/sim.safetensors", 0
  for name, want in pairs(cases) do
    if want.n then
      done = done + 1
      local X, Y = m:tensor(name .. ".X"), m:tensor(name .. ".Y")
      local function compare(what, got, key) near(name .. " " .. what, got, want[key or what], 1e-8) end
      for _, unbiased in ipairs { false, true } do
        local tag = unbiased and "unbiased" or "biased"
        local r = probe.cka(X, Y, { unbiased = unbiased })
        compare("cka_linear_" .. tag, r.value)
        near(name .. " hsic", r.hsic_xy, want["hsic_" .. tag .. "_XY"], 1e-8 * r.hsic_xx)
        for _, share in ipairs { 0.4, 1.0 } do
          compare("cka_rbf_" .. share .. "_" .. tag,
            probe.cka(X, Y, { kernel = "rbf", bandwidth = share, unbiased = unbiased }).value)
        end
      end
      local p = probe.procrustes(X, Y)
      compare("procrustes_distance", p.value)
      if X.shape[2] <= X.shape[1] then compare("procrustes_residual", p.residual) end
      if want.procrustes_residual and X.shape[2] <= X.shape[1] and name ~= "lowrank" then
        local q = m:tensor(name .. ".procrustes_Q")
        assert((p.rotation - q):abs():max() < 1e-8, name .. " rotation")
      end
      if want.matched_correlation_mean then
        local r = probe.matched_correlation(X, Y)
        compare("matched_correlation_mean", r.value)
        compare("permutation_procrustes_distance", r.procrustes)
      end
      if want.cca_mean then
        local c, w, s = probe.cca(X, Y), probe.pwcca(X, Y), probe.svcca(X, Y)
        compare("cca_mean", c.value)
        compare("cca_mean_squared", c.mean_squared)
        for i, v in ipairs(want.cca_correlations) do near("correlation", c.correlations[i], v, 1e-8) end
        compare("pwcca_X", w.value)
        compare("pwcca_Y", w.by_y)
        compare("svcca_mean", s.value)
        check.equal(s.dims, { math.tointeger(want.svcca_dims[1]), math.tointeger(want.svcca_dims[2]) })
      else
        check.raises("30 examples", probe.cca, X, Y)
        check.raises("probe.pwcca", probe.pwcca, X, Y)
      end
    end
  end
  check.equal(done, 8)
end

-- ---- identities ----

do
  local X = tensor.normal({ 60, 5 }, 1, f64)
  local Q = tensor.normal({ 5, 5 }, 2, f64):qr()
  local map = tensor.normal({ 5, 5 }, 3, f64)
  local other = tensor.normal({ 60, 5 }, 4, f64)
  local turned = 3 * X:matmul(Q) + 2
  for _, o in ipairs { {}, { unbiased = true }, { kernel = "rbf" }, { minibatch = 20 } } do
    near("rotated", probe.cka(X, turned, o).value, 1, 1e-10)
    near("symmetric", probe.cka(X, other, o).value, probe.cka(other, X, o).value, 1e-12)
  end
  assert(probe.cka(X, X:matmul(map)).value < 0.99)
  near("cca of a map", probe.cca(X, X:matmul(map)).value, 1, 1e-10)
  near("procrustes", probe.procrustes(X, turned).value, 0, 1e-10)
  near("procrustes, moved", probe.procrustes(other, turned).value, probe.procrustes(other, X).value, 1e-10)
  -- Copies of units and dead ones are no directions of their own.
  local wide = tensor.cat({ X, X[{ {}, { 1, 2 } }], tensor.zeros({ 60, 3 }, f64) }, 2)
  near("copies", probe.cca(wide, X).value, 1, 1e-10)
  check.equal(#probe.cca(wide, other).correlations, 5)
  near("one minibatch", probe.cka(X, other, { minibatch = 60 }).value, probe.cka(X, other, { unbiased = true }).value, 1e-12)
  -- The features' form and that of Gram matrices.
  local long = tensor.normal({ 8, 200 }, 5, f64)
  local k = long - long:mean(1, true)
  local y = X[{ { 1, 8 } }] - X[{ { 1, 8 } }]:mean(1, true)
  local function norm2(m) return m:dot(m) end
  near("gram", probe.cka(long, X[{ { 1, 8 } }]).value,
    norm2(k:t():matmul(y)) / math.sqrt(norm2(k:t():matmul(k)) * norm2(y:t():matmul(y))), 1e-12)
  near("wide procrustes", probe.procrustes(long, long:matmul((tensor.normal({ 200, 200 }, 6, f64):qr()))).value, 0, 1e-10)
  -- Unrelated features: the biased estimate does not know, the unbiased one does.
  local r1, r2 = tensor.normal({ 40, 60 }, 7, f64), tensor.normal({ 40, 60 }, 8, f64)
  assert(probe.cka(r1, r2).value > 0.4 and math.abs(probe.cka(r1, r2, { unbiased = true }).value) < 0.1)
  local still = probe.cka(tensor.ones { 20, 3 }, X[{ { 1, 20 } }]).value
  assert(still ~= still)
end

-- Matched units: a permutation is found; of unequal widths the narrow side is matched.
do
  local X, p = tensor.normal({ 60, 6 }, 1, f64), tensor.randperm(6, 3)
  local r = probe.matched_correlation(X, X:index_select(2, p))
  near("matched", r.value, 1, 1e-12)
  for i, j in ipairs(r.match) do check.equal(p:totable()[j], i) end
  r = probe.matched_correlation(X, X[{ {}, { 2, 4 } }])
  check.equal(r.rows, "y")
  check.equal(r.match, { 2, 3, 4 })
  near("many", r.best_y, 1, 1e-12)
end

-- Relative representations.
do
  local X, Q = tensor.normal({ 60, 5 }, 1, f64), tensor.normal({ 5, 5 }, 2, f64):qr()
  local r = probe.relative(X, 4 * X:matmul(Q), { anchors = { 3, 1, 7 } })
  near("relative", r.value, 1, 1e-12)
  check.equal(r.overlap, 1.0)
  near("a cosine", r.x[{ 5, 2 }], X[5]:cosine(X[1]), 1e-12)
  assert(probe.relative(X, tensor.normal({ 60, 5 }, 9, f64)).overlap < 0.4)
end

-- ---- networks ----

do
  local net = nn.mlp { 6, 12, 9, 4 }
  local a, b = net:init { seed = 1, dtype = "f64" }, net:init { seed = 2, dtype = "f64" }
  local d = { x = tensor.normal({ 70, 6 }, 3, f64) }
  local names = { "fc1", "act1", "fc2", "act2", "fc3" }
  local sa, sb = net:capture(a, d.x, names), net:capture(b, d.x, names)
  for _, name in ipairs { "cka", "cca", "svcca", "pwcca", "procrustes", "matched_correlation" } do
    local r = probe[name](net, a, b, d, { layers = names, batch = 32 })
    check.equal(tostring(r.matrix.shape), "[5, 5]")
    near(name, r.matrix[{ 2, 4 }], probe[name](sa.act1, sb.act2).value, 1e-12)
    check.equal(r.n, 70)
  end
  local r = probe.cka(net, a, a, d)
  check.equal(table.concat(r.rows, " "), "fc1 fc2 fc3")
  near("itself", r.matrix[{ 1, 1 }], 1, 1e-12)
  r = probe.cka(net, a, b, d, { minibatch = 20 })
  local xa = sa.fc1[{ { 1, 60 } }]
  near("minibatch", r.matrix[{ 1, 2 }], probe.cka(xa, sb.fc2[{ { 1, 60 } }], { minibatch = 20 }).value, 1e-12)
  check.equal(r.n, 60)
  local small = nn.mlp { 6, 5, 4 }
  r = probe.cka(net, a, small:init { seed = 3, dtype = "f64" }, d, { net_b = small })
  check.equal(tostring(r.matrix.shape), "[3, 2]")
  check.raises("no part act9", probe.cka, net, a, b, d, { layers = { "act9" } })
  check.raises("minibatch", probe.cka, net, a, b, d, { minibatch = 3 })
  check.raises("examples", probe.cca, net, a, b, { x = d.x[{ { 1, 8 } }] })

  local path = os.tmpname()
  r:save(path .. ".csv")
  local lines = {}
  for line in io.lines(path .. ".csv") do lines[#lines + 1] = line end
  check.equal(#lines, 7)
  check.equal(lines[1], "row,column,value")
  r:save(path .. ".json")
  local file <close> = io.open(path .. ".json")
  check.equal(#decode(file:read "a").matrix, 3)
  os.remove(path .. ".csv")
  os.remove(path .. ".json")
  os.remove(path)
  assert(tostring(r):find "fc2")
end

-- Images: places as features, as examples, and their mean.
do
  local net = nn.sequential { nn.conv2d(1, 3, 3), nn.activation "relu", nn.global_avg_pool(), nn.linear(3, 2) }
  local a, b = net:init { seed = 1, dtype = "f64" }, net:init { seed = 2, dtype = "f64" }
  local d = { x = tensor.normal({ 20, 6, 6, 1 }, 1, f64) }
  local sa, sb = net:capture(a, d.x, { "0" })["0"], net:capture(b, d.x, { "0" })["0"]
  local function of(places) return probe.cka(net, a, b, d, { layers = "0", places = places }).matrix[{ 1, 1 }] end
  near("features", of "features", probe.cka(sa, sb).value, 1e-12)
  near("rows", of "rows", probe.cka(sa:reshape { 320, 3 }, sb:reshape { 320, 3 }).value, 1e-12)
  near("mean", of "mean", probe.cka(sa:mean({ 2, 3 }), sb:mean({ 2, 3 })).value, 1e-12)
end

-- ---- linear probes ----

do
  -- Labels that are a linear function of x are read off it; of noise only by chance on new data.
  local x, w = tensor.normal({ 400, 6 }, 1, f64), tensor.normal({ 6, 3 }, 2, f64)
  local y = (x:matmul(w)):argmax(-1) - 1
  local r = probe.linear_probe(x[{ { 1, 300 } }], y[{ { 1, 300 } }], x[{ { 301, 400 } }], y[{ { 301, 400 } }])
  assert(r.accuracy[1][1] > 0.85, r.accuracy[1][1])
  -- Both Gram matrices give one answer.
  local narrow, wide = x[{ { 1, 6 } }], tensor.normal({ 6, 40 }, 3, f64)
  local t = probe.linear_probe(wide, y[{ { 1, 6 } }], wide, y[{ { 1, 6 } }])
  check.equal(t.train_accuracy[1][1], 1.0)
  assert(narrow)
  local net = nn.mlp { 6, 8, 3 }
  local a, b = net:init { seed = 1 }, net:init { seed = 2 }
  local d, e = { x = x[{ { 1, 300 } }], y = y[{ { 1, 300 } }] }, { x = x[{ { 301, 400 } }], y = y[{ { 301, 400 } }] }
  r = probe.linear_probe(net, { a, b }, d, e, { layers = { "fc1", "act1" } })
  check.equal(#r.accuracy, 2)
  assert(math.abs(r.accuracy[1][1] - probe.linear_probe(x[{ { 1, 300 } }], d.y, e.x, e.y).accuracy[1][1]) < 0.06)
  check.equal(probe.linear_probe(net, b, d, e, { layers = { "fc1", "act1" } }).accuracy[1], r.accuracy[2])
  check.raises("no labels", probe.linear_probe, net, a, { x = x }, e)
end
