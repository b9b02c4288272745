-- SPDX-License-Identifier: Apache-2.0
-- Barriers of the stored pairs of trained networks beside the tree, before and after the stored permutations, over all
-- definitions; with batch norm under both policies. Skipped where the pairs or Fashion-MNIST are not there.
local lines = dofile "tests/stdlib/probe/lines.lua"
local decode = require "json.decode".decode
local near = lines.near

local folder = "../shared/oracles/landscape/pairs/"

local function pair(name)
  local file <close> = io.open(folder .. name .. ".json")
  local want = decode(file:read "a")
  local function load(part) return model.load(folder .. name .. "_" .. part .. ".safetensors") end
  return want.paths[want.stored_pair], load "A", load "B", load "perm"
end

local here = io.open(folder .. "summary.json")
local ok, d = pcall(data.fashion_mnist, { normalise = { 0.286, 0.353 } })
if not here or not ok then
  print("skipped: " .. (here and "Fashion-MNIST is not there" or folder .. " is not there"))
  os.exit(0)
end
here:close()

-- B with every group of {tensor, axis} moved: new[j] = old[p[j]], p from 0.
local function moved(b, perm, kind, groups)
  local list = {}
  for _, name in ipairs(b:names()) do
    local t = b:tensor(name)
    for group, entries in pairs(groups) do
      for _, e in ipairs(entries) do
        if e[1] == name then t = t:index_select(e[2], perm:tensor(kind .. "." .. group) + 1) end
      end
    end
    list[#list + 1] = { name, t }
  end
  return model.new(list)
end

local function compare(f, a, b, want, what, o)
  o = o or {}
  o.t = want.t or o.t
  local r = probe.barrier(f, a, b, o)
  near(r.path.loss, want.loss, 2e-6, what .. " loss")
  near(r.path.error, want.error, 3e-4, what .. " error")
  for _, name in ipairs { "barrier_loss", "mid_loss_excess" } do near(r[name], want[name], 4e-6, what .. " " .. name) end
  for _, name in ipairs { "barrier_error", "instability_error" } do near(r[name], want[name], 6e-4, what .. " " .. name) end
  near(r.argmax_t, want.argmax_t, 1e-12, what .. " argmax")
  print(what, r)
  return r
end

do
  local groups = { h1 = { { "fc1.weight", 1 }, { "fc1.bias", 1 }, { "fc2.weight", 2 } },
    h2 = { { "fc2.weight", 1 }, { "fc2.bias", 1 }, { "fc3.weight", 2 } } }
  local net = nn.mlp { 784, 128, 128, 10 }
  local sets = { train10k = d.train:batch(1, 10000), test = d.test }
  for _, name in ipairs { "sgd128", "adam128" } do
    local want, a, b, perm = pair(name)
    for _, kind in ipairs { "naive", "weight_match_first", "weight_match_best", "act_match" } do
      local m = kind == "naive" and b or moved(b, perm, kind, groups)
      for set, on in pairs(sets) do
        local w = want[kind][set]
        w.t = want[kind].t
        compare(net:loss(on), a, m, w, name .. " " .. kind .. " " .. set)
      end
    end
  end
end

do -- batch norm: statistics interpolated, and made anew at every point from one batch of training images
  local c = { 1, 12, 24, 48, 48 }
  local parts = {}
  for i = 1, 4 do
    parts[#parts + 1] = { "conv" .. i, nn.conv2d(c[i], c[i + 1], 3, { padding = 1, bias = false }) }
    parts[#parts + 1] = { "bn" .. i, nn.batch_norm(c[i + 1]) }
    parts[#parts + 1] = { "relu" .. i, nn.activation "relu" }
    if i < 3 then parts[#parts + 1] = { "pool" .. i, nn.max_pool2d(2) } end
  end
  parts[#parts + 1] = { "mean", nn.global_avg_pool() }
  parts[#parts + 1] = { "fc", nn.linear(48, 10) }
  local net = nn.sequential(parts)
  local groups = {}
  for i = 1, 4 do
    groups["h" .. i] = { { "conv" .. i .. ".weight", 1 } }
    for _, part in ipairs { "weight", "bias", "running_mean", "running_var" } do
      table.insert(groups["h" .. i], { "bn" .. i .. "." .. part, 1 })
    end
    table.insert(groups["h" .. i], { i < 4 and "conv" .. i + 1 .. ".weight" or "fc.weight", 2 })
  end
  local want, a, b, perm = pair "vgg_bn"
  local train = d.train:batch(1, 2000)
  local sets = { train2k = train, test2k = d.test:batch(1, 2000) }
  for _, kind in ipairs { "naive", "weight_match", "act_match" } do
    local m = kind == "naive" and b or moved(b, perm, kind, groups)
    for set, on in pairs(kind == "naive" and sets or { test2k = sets.test2k }) do
      for _, policy in ipairs { "", "_bn_reset" } do
        local w = want[kind .. policy][set]
        w.t = want[kind .. policy].t
        local f, what = net:loss(on), "vgg " .. kind .. policy .. " " .. set
        if policy == "" then
          compare(f, a, m, w, what)
        else -- deeper norms see batches that are normalised by themselves, where the reference takes all images at once
          local r = probe.barrier(f, a, m, { t = w.t, bn = { x = train.x, y = train.y } })
          assert(r.bn == "recompute")
          near(r.path.loss, w.loss, 1e-3, what .. " loss")
          near(r.path.error, w.error, 5e-3, what .. " error")
          local k = #w.t // 2 + 1 -- norm after norm it is what all at once give, in any batches
          local middle = eval.bn_reset(net, (1 - w.t[k]) * a + w.t[k] * m, train, { batch = 150, statistics = "exact" })
          print(what, r, "exact off by", f(middle) - w.loss[k], "pooled by", r.path.loss[k] - w.loss[k])
          near({ f(middle) }, { w.loss[k] }, 2e-6, what .. " loss, exact")
        end
      end
    end
  end
end
