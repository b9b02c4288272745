-- SPDX-License-Identifier: Apache-2.0
-- Networks trained here by the recipes of the stored pairs (../shared/oracles/landscape/pairs), three pairs of each,
-- and the barriers between them: as they are, matched, repaired; against the bands of the stored ones (three times
-- their half-range around their mean, at least 0.03 in loss and 0.015 in error, 0.3 and 0.1 where nothing is matched).
--
--   tarn bench/align/pairs.lua FOLDER [sgd128 adam128 sgd512 adam512 vgg_bn]
--
-- FOLDER keeps the trained networks; the word `stored` in its place takes the one stored pair of sgd128, adam128 and
-- vgg_bn. Needs dataset-fashion-mnist and the stored figures.
local vgg = require "vgg"
local folder, wanted = arg[1], { table.unpack(arg, 2) }
assert(folder, "usage: tarn bench/align/pairs.lua FOLDER [NAME…]")
local as_stored = folder == "stored"
if #wanted == 0 then
  wanted = as_stored and { "sgd128", "adam128", "vgg_bn" } or { "sgd128", "adam128", "sgd512", "adam512", "vgg_bn" }
end

local there = "../shared/oracles/landscape/pairs/"
local function stored(file)
  local f <close> = assert(io.open(there .. file))
  return require "json.decode".decode(f:read "a")
end

-- net -> method -> "set.barrier" -> { least, mean, most }
local bands = stored "summary.json"
bands.vgg_bn = {}
for _, methods in pairs(stored "vgg_bn.json".paths) do
  for method, sets in pairs(methods) do
    for set, path in pairs(type(sets) == "table" and sets or {}) do
      for _, what in ipairs { "barrier_loss", "barrier_error" } do
        local v = type(path) == "table" and path[what]
        if v then
          bands.vgg_bn[method] = bands.vgg_bn[method] or {}
          local key = set .. "." .. what
          local b = bands.vgg_bn[method][key] or { v, 0.0, v }
          bands.vgg_bn[method][key] = { math.min(b[1], v), b[2] + v / 3, math.max(b[3], v) }
        end
      end
    end
  end
end

local d = data.fashion_mnist { normalise = { 0.286, 0.353 } }

local small, large = nn.mlp { 784, 128, 128, 10 }, nn.mlp { 784, 512, 512, 10 }
local ring = { { 1, 2 }, { 2, 3 }, { 1, 3 } }
local mlp_sets = { train10k = d.train:take(10000), test = d.test }
local vgg_sets = { train2k = d.train:take(2000), test2k = d.test:take(2000) }
local recipes = {
  sgd128 = { net = small, opt = train.sgd { lr = 0.05, momentum = 0.9 }, epochs = 10, batch = 128,
    points = 13, restarts = 20, pairs = { { 1, 2 }, { 3, 4 }, { 5, 6 } }, sets = mlp_sets, stem = "train10k" },
  adam128 = { net = small, opt = train.adam { lr = 1e-3 }, epochs = 10, batch = 128,
    points = 13, restarts = 20, pairs = ring, sets = mlp_sets, stem = "train10k" },
  sgd512 = { net = large, opt = train.sgd { lr = 0.1, momentum = 0.9 }, epochs = 6, batch = 256,
    points = 7, restarts = 5, pairs = ring, sets = mlp_sets, stem = "train10k" },
  adam512 = { net = large, opt = train.adam { lr = 1e-3 }, epochs = 6, batch = 256,
    points = 7, restarts = 5, pairs = ring, sets = mlp_sets, stem = "train10k" },
  vgg_bn = { net = vgg(), opt = train.sgd { lr = 0.05, momentum = 0.9 }, epochs = 4, batch = 128,
    points = 11, restarts = 20, pairs = ring, sets = vgg_sets, stem = "train2k", take = 20000, bn = true },
}

local function trained(name, r, seed)
  if as_stored then return model.load(there .. name .. "_" .. seed .. ".safetensors") end
  local path = ("%s/%s_%d.safetensors"):format(folder, name, seed)
  local file = io.open(path)
  if file then
    file:close()
    return model.load(path)
  end
  local scheme = r.bn and function(t)
    if t.name:find "^conv" then return { "uniform", math.sqrt(6 / t.fan_in) } end
    if t.name == "fc.weight" then return { "uniform", 1 / math.sqrt(t.fan_in) } end
    return t.name:find "^bn.*weight$" and 1 or t.name:find "var$" and 1 or 0
  end or "torch"
  local set = r.take and d.train:take(r.take) or d.train
  local m = train.fit(r.net, set, { start = r.net:init { seed = seed, scheme = scheme }, seed = seed, epochs = r.epochs,
    batch = r.batch, optimiser = r.opt, schedule = "cosine", drop_last = true, quiet = true })
  if r.bn then m = eval.bn_reset(r.net, m, d.train:take(5000)) end
  m:save(path)
  return m
end

-- Barriers in loss and error along theta(t).
local function barrier(f, n, theta)
  local rows, loss, wrong = {}, 0.0, 0.0
  for i = 0, n - 1 do rows[i] = f:report(theta(i / (n - 1))) end
  for i = 0, n - 1 do
    local t = i / (n - 1)
    loss = math.max(loss, rows[i].loss - (1 - t) * rows[0].loss - t * rows[n - 1].loss)
    wrong = math.max(wrong, rows[i].error - (1 - t) * rows[0].error - t * rows[n - 1].error)
  end
  return loss, wrong
end

-- { method, function(t) -> theta } of a pair.
local function ways(r, a, b)
  local stem = r.sets[r.stem]
  local list = {}
  local function line(name, m)
    list[#list + 1] = { name, function(t) return (1 - t) * a + t * m end }
  end
  local function repaired(name, m)
    list[#list + 1] = { name, function(t)
      return (align.repair(r.net, a, m, { data = stem, t = t, batch = r.bn and 2000 or 1000 }))
    end }
  end
  local best = align.weights(r.net, a, b, { restarts = r.restarts }):apply(b)
  local act = align.activations(r.net, a, b, { data = stem, batch = r.bn and 100 or 500 }):apply(b)
  line("naive", b)
  if r.bn then
    repaired("naive_bn_reset", b)
    line("weight_match", best)
    repaired("weight_match_bn_reset", best)
    line("act_match", act)
    repaired("act_match_bn_reset", act)
  else
    line("weight_match_first", align.weights(r.net, a, b):apply(b))
    line("weight_match_best", best)
    line("act_match", act)
    repaired("act_match_repair", act)
    repaired("weight_match_repair", best)
  end
  return list
end

local function inside(v, band, least)
  if not band then return "" end
  local low, mean, high = table.unpack(band)
  local half = math.max(3 * (high - low) / 2, least)
  return math.abs(v - mean) <= half and "in" or "OUT"
end

for _, name in ipairs(wanted) do
  local r = assert(recipes[name], name)
  local got, order = {}, {}
  for _, pair in ipairs(as_stored and { { "A", "B" } } or r.pairs) do
    local a, b = trained(name, r, pair[1]), trained(name, r, pair[2])
    for _, way in ipairs(ways(r, a, b)) do
      local method, theta = table.unpack(way)
      if not got[method] then got[method], order[#order + 1] = {}, method end
      for set, on in pairs(r.sets) do
        local f = r.net:loss(on, { batch = r.bn and 250 or 1000 })
        local loss, wrong = barrier(f, r.points, theta)
        for what, v in pairs { [set .. ".barrier_loss"] = loss, [set .. ".barrier_error"] = wrong } do
          got[method][what] = got[method][what] or {}
          table.insert(got[method][what], v)
        end
      end
    end
    io.stderr:write(name, " ", pair[1], "-", pair[2], " done\n")
  end
  local columns = {}
  for set in pairs(r.sets) do columns[#columns + 1] = set end
  table.sort(columns, function(x, y) return x > y end)
  for _, method in ipairs(order) do
    local loose = method:find "^naive"
    for _, set in ipairs(columns) do
      local words = {}
      for _, what in ipairs { "barrier_loss", "barrier_error" } do
        local list, key = got[method][set .. "." .. what], set .. "." .. what
        local band = bands[name] and bands[name][method] and bands[name][method][key]
        local mean = 0.0
        for _, v in ipairs(list) do mean = mean + v / #list end
        local least = what == "barrier_loss" and (loose and 0.3 or 0.03) or (loose and 0.1 or 0.015)
        words[#words + 1] = ("%s %.3f [%.3f, %.3f]%s"):format(what, mean, math.min(table.unpack(list)),
          math.max(table.unpack(list)), band and (", stored %.3f [%.3f, %.3f] %s"):format(band[2], band[1], band[3],
            inside(mean, band, least)) or "")
      end
      print(("%-8s %-22s %-8s %s"):format(name, method, set, table.concat(words, "; ")))
    end
  end
end
