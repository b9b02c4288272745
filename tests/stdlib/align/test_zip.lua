-- SPDX-License-Identifier: Apache-2.0
-- Zips: identical networks, ensembles (nothing merged), the greedy rule against a plain twin on the test's own
-- correlations, budgets, other widths, heads kept apart, networks of the zoo.
local check = dofile "tests/stdlib/bind/check.lua"
local drawn, inputs = require "drawn".model, require "drawn".inputs

local function off(y, z) return (y - z):abs():max() / z:abs():max() end

-- ---- every architecture zipped with itself is itself; nothing merged is the mean of both ----

local ensembles = { nn.mlp { 4, 16, 8, 3, norm = "batch" }, nn.resnet { depth = 8, width = 4, input = { 8, 8, 2 } },
  nn.conv { 4, "M", 6, input = { 8, 8, 2 }, hidden = { 7 }, classes = 3, norm = false } }
local others = { nn.vit { input = { 8, 8, 1 }, patch = 4, width = 16, layers = 2, heads = 2 },
  nn.bert { width = 16, layers = 1, heads = 2, vocab = 32 }, nn.gpt { width = 16, layers = 1, heads = 2, vocab = 32 },
  nn.llama { width = 16, layers = 1, heads = 4, kv_heads = 2, vocab = 32 } }
for _, list in ipairs { ensembles, others } do
  for _, net in ipairs(list) do
    local a, d = drawn(net, 1), inputs(net, 64)
    check.equal((align.zip(net, a, a, { data = d }):merge() - a):norm(), 0.0, net.kind)
    if list == ensembles then
      local b = drawn(net, 2)
      local z = align.zip(net, a, b, { data = d, width = 2 })
      assert(off(z.net(z:merge(), d.x), (net(a, d.x) + net(b, d.x)) / 2) < 1e-5, net.kind)
    end
  end
end

-- ---- the rule ----

local function correlations(x)
  x = x:to "f64" - x:to "f64":mean(1)
  x = x / (x * x):sum(1):sqrt()
  return x:t():matmul(x):totable()
end

-- Straight from the paper, with plain tables: the group of each feature.
local function twin(c, sizes, wanted, alpha, budget)
  local n, origin, of, live, s = #c, {}, {}, {}, {}
  for m, k in ipairs(sizes) do
    for _ = 1, k do origin[#origin + 1] = m end
  end
  for i = 1, n do
    of[i], live[i], s[i] = { i }, true, { table.unpack(c[i]) }
  end
  for count = n, wanted + 1, -1 do
    local best, p, q = -math.huge, nil, nil
    for i = 1, n do
      for j = i + 1, n do
        local out = origin[i] == origin[j] and budget[origin[i]] == 0
        if live[i] and live[j] and not out and s[i][j] > best then best, p, q = s[i][j], i, j end
      end
    end
    for _, k in ipairs(of[q]) do table.insert(of[p], k) end
    live[q] = false
    for k = 1, n do
      s[p][k] = alpha * math.min(s[p][k], s[q][k])
      s[k][p] = s[p][k]
    end
    if origin[p] == origin[q] then budget[origin[p]] = budget[origin[p]] - 1 end
    assert(count > wanted)
  end
  local groups, next = {}, 0
  for i = 1, n do
    if live[i] then
      next = next + 1
      for _, k in ipairs(of[i]) do groups[k] = next end
    end
  end
  return groups
end

local net, wide = nn.mlp { 6, 24, 3 }, nn.mlp { 6, 32, 3 }
local d = { x = tensor.randn({ 300, 6 }, 9) }
local a, b = drawn(net, 1), drawn(wide, 2)
local seen = tensor.cat({ net:capture(a, d.x, "act1").act1, wide:capture(b, d.x, "act1").act1 }, 2)
for _, alpha in ipairs { 0.3, 1, 0.01 } do
  local z = align.zip(net, a, b, { data = d, alpha = alpha, beta = 1, batch = 77 })
  -- 32 removals, 16 for each: more than are wanted within, so that no budget ends
  check.equal(z.groups[1].budget, { 16, 16 })
  check.equal(z.groups[1].partition:totable(), twin(correlations(seen), { 24, 32 }, 24, alpha, { 16, 16 }))
end

-- A merged tensor by its formula, with the maps that the zip gives.
do
  local z = align.zip(net, a, b, { data = d })
  local m, id = z:merge(), z.groups[1].id
  check.equal(z.groups[1].budget, { 2, 8 }, "what b has too many is merged within b")
  local one, two = z.maps[1].maps[id], z.maps[2].maps[id]
  assert(off(one.forward:sum(3) + two.forward:sum(3), tensor.ones { 1, 24 }) < 1e-6)
  assert(off(two.back:sum(3), tensor.ones { 1, 32 }) == 0)
  local function by_hand(name)
    return one.forward[1]:matmul(a[name]) + two.forward[1]:matmul(b[name])
  end
  assert(off(m["fc1.weight"], by_hand "fc1.weight") < 1e-6 and off(m["fc1.bias"], by_hand "fc1.bias") < 1e-6)
  assert(off(m["fc2.weight"], (a["fc2.weight"]:matmul(one.back[1]) + b["fc2.weight"]:matmul(two.back[1])) / 2) < 1e-6)
  assert(off(m["fc2.bias"], (a["fc2.bias"] + b["fc2.bias"]) / 2) < 1e-6)
  local text = tostring(z)
  assert(text:find "zip of 2 models: 1 group" and text:find "within 2", text)
end

-- ---- budgets ----

do
  local one, two = drawn(net, 1), drawn(net, 2)
  for beta, most in pairs { [0] = 0, [0.125] = 1, [0.5] = 6 } do
    local r = align.zip(net, one, two, { data = d, beta = beta }).groups[1]
    check.equal(r.budget, { most, most })
    assert(r.left[1] >= 0 and r.left[2] >= 0)
    if beta == 0 then check.equal({ r.within[1], r.within[2], r.across, r.alone }, { 0, 0, 24, 0 }) end
    local used = most - r.left[1] + most - r.left[2]
    assert(used >= r.within[1] + r.within[2], "a group within one model takes at least one merge of its budget")
  end
end

-- Pairs across alone are the best assignment where each feature has one that is far the most like it.
do
  local order = tensor.randperm(24, 5)
  local p = { ["fc1.weight"] = a["fc1.weight"]:index_select(1, order), ["fc1.bias"] = a["fc1.bias"]:index_select(1, order),
    ["fc2.weight"] = a["fc2.weight"]:index_select(2, order), ["fc2.bias"] = a["fc2.bias"] }
  local moved = model.new(p)
  moved = moved + 0.02 * (drawn(net, 7) - drawn(net, 8))
  local z = align.zip(net, a, moved, { data = d, beta = 0 })
  local groups = z.groups[1].partition
  local hidden = { net:capture(a, d.x, "act1").act1, net:capture(moved, d.x, "act1").act1 }
  local c = tensor(correlations(tensor.cat(hidden, 2)))[{ { 1, 24 }, { 25, 48 } }]
  local match = align.assignment(c, { maximise = true })
  check.equal(groups[{ { 25, 48 } }]:gather(1, match):totable(), groups[{ { 1, 24 } }]:totable())
  check.equal(order:gather(1, match):totable(), (tensor.arange(24) + 1):totable(), "and it finds the order")
end

-- ---- other widths ----

-- b is a with features that stand there twice, each read by half: the same function, of which a remains.
do
  local twice = tensor.cat({ tensor.arange(24) + 1, tensor { 3, 3, 7, 20 }:to "i64" }, 1)
  local share = {}
  for k = 1, 24 do share[k] = k == 3 and 1 / 3 or (k == 7 or k == 20) and 1 / 2 or 1 end
  share = tensor(share)
  local double = model.new { ["fc1.weight"] = a["fc1.weight"]:index_select(1, twice),
    ["fc1.bias"] = a["fc1.bias"]:index_select(1, twice),
    ["fc2.weight"] = (a["fc2.weight"] * share):index_select(2, twice), ["fc2.bias"] = a["fc2.bias"] }
  local y = net(a, d.x)
  local z = align.zip(net, a, double, { data = d })
  check.equal({ z.groups[1].across, z.groups[1].size }, { 24, 24 })
  assert(off(net(z:merge(), d.x), y) < 1e-5)
  assert(z:merge():config(), "the model is still one for a's network")
  -- and the other way round: 28 features of 24 + 28
  z = align.zip({ nn.mlp { 6, 28, 3 }, net }, double, a, { data = d })
  check.equal(z.net:params()[1].shape[1], 28)
  assert(off(z.net(z:merge(), d.x), y) < 1e-5)
  -- a width of one's own, and a network that can be opened again
  z = align.zip(net, a, double, { data = d, width = { fc1 = 30 } })
  check.equal(z.net:params()[1].shape, { 30, 6 })
  local m = z:merge()
  assert(off(nn.from(m)(m, d.x), y) < 1e-5)
end

-- Convolutions, streams and norms of other widths.
do
  local small, large = nn.resnet { depth = 8, width = 4, input = { 8, 8, 2 } }, nn.resnet { depth = 8, width = 6, input = { 8, 8, 2 } }
  local images = inputs(small, 32)
  local z = align.zip(small, drawn(small, 1), drawn(large, 2), { data = images })
  for _, r in ipairs(z.groups) do check.equal(r.sizes[2], r.size * 3 // 2) end
  local m = z:merge { bn = images }
  local again = eval.bn_reset(small, m, images)
  check.equal((again - m):norm(), 0.0)
  check.equal(small(m, images.x).shape, { 32, 10 })
  local deep = align.zip(large, drawn(large, 1), drawn(small, 2), { data = images, through = "layer2" })
  check.equal(deep.net(deep:merge { bn = images }, images.x).shape, { 32, 10 })
end

-- One network stands for all: what its layers state about widths is made anew from the tensors.
do
  local function depthwise(n)
    return nn.sequential({ nn.conv2d(2, n, 3), "relu", nn.conv2d(n, n, 3, { groups = n, padding = 1 }), "relu",
      nn.conv2d(n, n + 1, 1, { bias = false }), nn.global_avg_pool(), nn.linear(n + 1, 3) }, { input = { 6, 6, 2 } })
  end
  local list = { { depthwise(4), depthwise(7) } }
  for _, norm in ipairs { "batch", "layer", "rms" } do
    list[#list + 1] = { nn.mlp { 5, 8, 6, 3, norm = norm }, nn.mlp { 5, 12, 7, 3, norm = norm } }
  end
  for _, arch in ipairs { "vit", "bert", "gpt", "llama" } do
    local o = { width = 16, layers = 1, heads = 2, input = arch == "vit" and { 8, 8, 1 } or nil,
      patch = arch == "vit" and 4 or nil, vocab = arch ~= "vit" and 20 or nil, inner = 24 }
    local small = nn[arch](o)
    o.inner = 32
    list[#list + 1] = { small, nn[arch](o) }
  end
  for _, both in ipairs(list) do
    local one, two, x = drawn(both[1], 1), drawn(both[2], 2), inputs(both[1], 32)
    local z, w = align.zip(both, one, two, { data = x }), align.zip(both[1], one, two, { data = x })
    check.equal((z:merge() - w:merge()):norm(), 0.0)
    -- and a network made for the second's widths computes what the second's own does
    z = align.zip(both[1], two, two, { data = x })
    assert(z.net(z:merge(), x.x):equal(both[2](two, x.x)), both[1].kind)
    check.equal(z.net:summary(), both[2]:summary())
  end
end

-- ---- heads kept apart ----

do
  local deep, wider = nn.mlp { 6, 24, 12, 3 }, nn.mlp { 6, 32, 10, 3 }
  local one, two = drawn(deep, 1), drawn(wider, 2)
  local z = align.zip({ deep, wider }, one, two, { data = d, through = "act1" })
  local m = z:merge()
  check.equal(table.concat(m:names(), " "), "fc1.weight fc1.bias heads.1.unmerge.weight heads.1.fc2.weight "
    .. "heads.1.fc2.bias heads.1.fc3.weight heads.1.fc3.bias heads.2.unmerge.weight heads.2.fc2.weight "
    .. "heads.2.fc2.bias heads.2.fc3.weight heads.2.fc3.bias")
  check.equal(m["heads.2.unmerge.weight"].shape, { 32, 24 })
  check.equal((m["heads.2.fc3.weight"] - two["fc3.weight"]):abs():max(), 0.0)
  local y, _, parts = z.net(m, d.x, { capture = { "heads.1", "heads.2" } })
  assert(off(y, (parts["heads.1"] + parts["heads.2"]) / 2) < 1e-6)
  assert(nn.from(m)(m, d.x):equal(y), "the config says what network it is")
  -- nothing merged: each head says what its network says
  z = align.zip({ deep, wider }, one, two, { data = d, through = "act1", width = { fc1 = 56 }, join = "cat" })
  y = z.net(z:merge(), d.x)
  assert(off(y[{ {}, { 1, 3 } }], deep(one, d.x)) < 1e-5 and off(y[{ {}, { 4, 6 } }], wider(two, d.x)) < 1e-5)
  -- identical networks: the same function
  z = align.zip(deep, one, one, { data = d, through = "act2" })
  assert(off(z.net(z:merge(), d.x), deep(one, d.x)) < 1e-5)
  -- a stream that goes on behind the cut
  local res = ensembles[2]
  local images, x = inputs(res, 32), drawn(res, 1)
  z = align.zip(res, x, x, { data = images, through = "layer2" })
  assert(off(z.net(z:merge(), images.x), res(x, images.x)) < 1e-4)
  z = align.zip(res, x, drawn(res, 2), { data = images, through = "layer1", width = 2 })
  assert(off(z.net(z:merge(), images.x), (res(x, images.x) + res(drawn(res, 2), images.x)) / 2) < 1e-4)
  local vit = others[1]
  images, x = inputs(vit, 32), drawn(vit, 1)
  z = align.zip(vit, x, x, { data = images, through = "vit.encoder.layer.0" })
  assert(off(z.net(z:merge(), images.x), vit(x, images.x)) < 1e-4)
end

-- ---- more than two, dtypes, mistakes ----

do
  local z = align.zip(net, { a, a, a }, { data = d, alpha = 1 })
  assert(off(z.net(z:merge(), d.x), net(a, d.x)) < 1e-5)
  z = align.zip(net, { a, b, drawn(net, 4) }, { data = d, width = 80 / 24 })
  assert(off(z.net(z:merge(), d.x), (net(a, d.x) + wide(b, d.x) + net(drawn(net, 4), d.x)) / 3) < 1e-5)
  local half = a:cast "bf16"
  local m = align.zip(net, half, half, { data = d }):merge()
  check.equal(m["fc1.weight"].dtype, "bf16")
  check.equal((m - half):norm(), 0.0)
  check.raises("did you mean 'width'?", align.zip, net, a, b, { data = d, widht = 1 })
  check.raises("align.zip: data = … is needed", align.zip, net, a, b)
  check.raises("no group is called fc2", align.zip, net, a, b, { data = d, width = { fc2 = 1 } })
  check.raises("width of fc1 = 100; expected 1 … 56", align.zip, net, a, b, { data = d, width = { fc1 = 100 } })
  check.raises("has no part act9", align.zip, net, a, b, { data = d, through = "act9" })
  check.raises("model 2 has 2 groups, model 1 has 1",
    align.zip, { net, nn.mlp { 6, 4, 4, 3 } }, a, nn.mlp { 6, 4, 4, 3 }:init {}, { data = d })
end

-- ---- two networks of unequal width, as a user writes it ----

do
  local digits = data.digits()
  local d = { train = digits.train:take(400), test = digits.test:take(200) }
  local net = nn.resnet { depth = 8, width = 4, input = { 8, 8, 1 } }
  local a = train.fit(net, d.train, { seed = 1, epochs = 5, lr = 0.01, batch = 32 })
  local b = train.fit(nn.resnet { depth = 8, width = 6, input = { 8, 8, 1 } }, d.train,
    { seed = 2, epochs = 5, lr = 0.01, batch = 32 })
  local function f(m) return nn.from(m):loss(d.test):report(m).accuracy end
  local said
  local function print(...) said = { ... } end
  local z = align.zip(net, a, b, { data = d.train, alpha = 0.3, beta = 0.125, through = "layer2" })
  print(f(z:merge { bn = d.train }), z.net)
  assert(tostring(said[2]):find "unmerge" and said[1] > 0.2, said[1])
end
