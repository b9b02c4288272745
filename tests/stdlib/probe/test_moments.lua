-- SPDX-License-Identifier: Apache-2.0
-- Second moments of layers, and the merges that take them: RegMean, RegMean++, MaTS.
local check = dofile "tests/stdlib/bind/check.lua"

local function near(what, got, want, most)
  local off = (got:to "f64" - want:to "f64"):abs():max() / want:abs():max()
  assert(off <= most, ("%s: off by %.3e, allowed %.1e"):format(what, off, most))
end
local f64 = { dtype = "f64" }

-- ---- Gram matrices ----

-- Linear maps: every row of whatever leading dimensions; the second layer sees the first one's outputs.
do
  local net = nn.sequential { nn.linear(3, 4), nn.activation "tanh", nn.linear(4, 2) }
  local theta = net:init { seed = 1, dtype = "f64" }
  local x = tensor.normal({ 5, 2, 3 }, 2, f64)
  local g = probe.gram(net, theta, { x = x }, { batch = 2 })
  local flat = x:reshape { 10, 3 }
  near("first", g["0.weight"], flat:t():matmul(flat) / 10, 1e-13)
  local h = (flat:matmul(theta["0.weight"]:t()) + theta["0.bias"]):tanh()
  near("second", g["2.weight"], h:t():matmul(h) / 10, 1e-13)
  check.equal(g:mass(), 0.0)
  check.equal(table.concat(g:names(), " "), "0.weight 2.weight")
  check.equal(probe.gram(net, theta, { x = x }, { only = function(name) return name == "2.weight" end }):names(), { "2.weight" })
end

-- Convolutions: what the kernel sees is what the convolution is linear in.
do
  local how = { stride = 2, padding = 1 }
  local net = nn.sequential { nn.conv2d(3, 4, { 3, 2 }, how), nn.conv2d(4, 4, 1, { groups = 2 }) }
  local theta = net:init { seed = 1, dtype = "f64" }
  local x = tensor.normal({ 3, 5, 6, 3 }, 2, f64)
  local g = probe.gram(net, theta, { x = x })
  check.equal(g:names(), { "0.weight" })
  check.equal(tostring(g["0.weight"].shape), "[18, 18]")
  -- |conv(x, v)|² is v' G v, for any kernel v.
  for seed = 1, 3 do
    local v = tensor.normal({ 1, 3, 3, 2 }, seed, f64)
    local y = x:conv2d(v, how)
    local flat = v:reshape { 18, 1 }
    near("convolution", flat:t():matmul(g["0.weight"]):matmul(flat), ((y * y):sum() / y:numel()) * tensor.ones({ 1, 1 }, f64), 1e-12)
  end
end

-- ---- factors of the curvature ----

-- Of one example with one row the information of a weight is the product of the two diagonals.
do
  local net = nn.mlp { 3, 4, 2, act = "tanh" }
  local theta = net:init { seed = 1, dtype = "f64" }
  local d = { x = tensor.normal({ 1, 3 }, 2, f64) }
  local f, inputs, outputs = probe.fisher(net, theta, d), probe.moments(net, theta, d)
  for _, name in ipairs { "fc1.weight", "fc2.weight" } do
    local function diagonal(m) return (m * tensor.eye(m.shape[1]):to "f64"):sum(2) end
    local a, b = diagonal(inputs[name]), diagonal(outputs[name])
    near(name, b:reshape { -1, 1 } * a, f[name], 1e-12)
  end
  near("inputs", inputs["fc1.weight"], probe.gram(net, theta, d)["fc1.weight"], 0)
end
-- The last layer's: the mean of diag(p) - p p'. Batches do not matter.
do
  local net = nn.mlp { 3, 4, 5 }
  local theta = net:init { seed = 3, dtype = "f64" }
  local d = { x = tensor.normal({ 7, 3 }, 4, f64) }
  local _, outputs = probe.moments(net, theta, d, { batch = 3 })
  local p = net(theta, d.x):softmax(-1)
  near("outputs", outputs["fc2.weight"], (p:sum(1) * tensor.eye(5):to "f64" - p:t():matmul(p)) / 7, 1e-12)
end

-- ---- RegMean ----

local net = nn.mlp { 6, 8, 4 }
local a, b = net:init { seed = 1, dtype = "f64" }, net:init { seed = 2, dtype = "f64" }
local da, db = { x = tensor.normal({ 40, 6 }, 3, f64) }, { x = 2 * tensor.normal({ 30, 6 }, 4, f64) }
local ga, gb = probe.gram(net, a, da), probe.gram(net, b, db)

-- At alpha = 1 no change of the weight brings the outputs nearer: the gradient of the squared errors is zero.
do
  local m = merge.regmean { a, b, gram = { ga, gb }, alpha = 1 }:load()
  local function errors(w)
    local ea, eb = da.x:matmul((w - a["fc1.weight"]):t()), db.x:matmul((w - b["fc1.weight"]):t())
    return (ea * ea):sum() / 40 + (eb * eb):sum() / 30
  end
  local w = m["fc1.weight"]
  assert(grad(errors, w):abs():max() < 1e-10 * grad(errors, a["fc1.weight"]):abs():max())
  assert(errors(w) < errors((a["fc1.weight"] + b["fc1.weight"]) / 2))
  near("one model", merge.regmean { a, gram = { ga } }:load()["fc1.weight"], a["fc1.weight"], 1e-10)
  near("equal inputs", merge.regmean { a, b, gram = { ga, ga } }:load()["fc2.weight"],
    (a["fc2.weight"] + b["fc2.weight"]) / 2, 1e-10)
end

-- ---- RegMean++ ----

do
  -- The first layer is RegMean's; the second is fitted on what comes through the merged first.
  local plain = merge.regmean { a, b, gram = { ga, gb }, alpha = 0.95 }:load()
  local m = search.regmean_plus(net, { a, b }, { da, db })
  near("first layer", m["fc1.weight"], plain["fc1.weight"], 1e-12)
  local function through(x)
    local h = (x:matmul(m["fc1.weight"]:t()) + m["fc1.bias"]):relu()
    local g = h:t():matmul(h) / x.shape[1]
    local eye = tensor.eye(8):to "f64"
    return 0.95 * g + 0.05 * (g * eye)
  end
  local sa, sb = through(da.x), through(db.x)
  near("second layer", m["fc2.weight"]:matmul(sa + sb), a["fc2.weight"]:matmul(sa) + b["fc2.weight"]:matmul(sb), 1e-10)
  near("biases", m["fc2.bias"], (a["fc2.bias"] + b["fc2.bias"]) / 2, 1e-12)
  near("one model", search.regmean_plus(net, { a }, { da })["fc2.weight"], a["fc2.weight"], 1e-10)
  check.raises("as many data sets", search.regmean_plus, net, { a, b }, { da })
end

-- Patches, attention and norms: two equal models come back, and a layer without matrices is averaged.
do
  local vit = nn.vit { width = 8, layers = 2, heads = 2, inner = 16, patch = 7, classes = 3 }
  local m, n = vit:init { seed = 1, dtype = "f64" }, vit:init { seed = 2, dtype = "f64" }
  local x, y = { x = tensor.uniform({ 9, 28, 28, 1 }, 1, f64) }, { x = tensor.uniform({ 7, 28, 28, 1 }, 2, f64) }
  assert((search.regmean_plus(vit, { m, m }, { x, y }) - m):norm() < 1e-8 * m:norm())
  local merged = search.regmean_plus(vit, { m, n }, { x, y })
  for _, name in ipairs(m:names()) do
    if not name:find "weight$" or name:find "norm" then
      local mean = (m:tensor(name) + n:tensor(name)) / 2
      assert((merged:tensor(name) - mean):abs():max() < 1e-12, name)
    end
  end
end

-- ---- MaTS ----

-- What comes out solves sum of B W A = sum of B W_m A; inputs alone are RegMean at alpha = 1.
do
  local ia, oa = probe.moments(net, a, da)
  local ib, ob = probe.moments(net, b, db)
  local m = merge.mats { a, b, inputs = { ia, ib }, outputs = { oa, ob }, iterations = 400 }:load()
  local n = "fc1.weight"
  local function curved(w) return oa[n]:matmul(w):matmul(ia[n]), ob[n]:matmul(w):matmul(ib[n]) end
  local l1, l2 = curved(m[n])
  local r1 = curved(a[n])
  local _, r2 = curved(b[n])
  near("curvature", l1 + l2, r1 + r2, 1e-8)
  near("inputs alone", merge.mats { a, b, inputs = { ia, ib }, iterations = 200 }:load()[n],
    merge.regmean { a, b, gram = { ga, gb }, alpha = 1 }:load()[n], 1e-8)
end

-- ---- what is refused ----

check.raises("no linear map or convolution", probe.gram, nn.sequential { nn.layer_norm(3) }, nn.sequential { nn.layer_norm(3) }:init {},
  { x = tensor.ones { 2, 3 } })
check.raises("expected a data set", probe.gram, net, a, 1)
check.raises("expected a network", search.regmean_plus, 1, { a }, { da })
