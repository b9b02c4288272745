-- SPDX-License-Identifier: Apache-2.0
-- Stored trained pairs on Fashion-MNIST, and comparison with their figures (recomputing: 2e-6 in loss, 3e-4 in error).
-- nil where Debian's dataset-fashion-mnist or the stored pairs are not there.
local decode = require "json.decode".decode
local folder = "../shared/oracles/landscape/pairs/"
local stored = io.open(folder .. "sgd128.json")
local there = io.open "/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz"
if not there or not stored then
  print "skipped: dataset-fashion-mnist or the stored pairs are not there"
  return false
end
there:close()
stored:close()

local pairs_of = { data = data.fashion_mnist { normalise = { 0.286, 0.353 } } }

function pairs_of.opened(name)
  local file <close> = assert(io.open(folder .. name .. ".json"))
  return model.load(folder .. name .. "_A.safetensors"), model.load(folder .. name .. "_B.safetensors"),
    model.load(folder .. name .. "_perm.safetensors"), decode(file:read "a")
end

-- Largest differences of loss and error on a path from the stored path, at the points `at`.
local function off(f, want, at, theta)
  local loss, wrong = 0.0, 0.0
  for _, i in ipairs(at) do
    local r = f:report(theta(want.t[i]))
    loss = math.max(loss, math.abs(r.loss - want.set.loss[i]))
    wrong = math.max(wrong, math.abs(r.error - want.set.error[i]))
  end
  return loss, wrong
end

function pairs_of.path_of(about, pair, method, set)
  local p = about.paths[pair][method]
  return { t = p.t, set = p[set] }
end

function pairs_of.barrier(f, theta, points)
  local first, last, most = f(theta(0)), f(theta(1)), 0.0
  for i = 1, points - 2 do
    local t = i / (points - 1)
    most = math.max(most, f(theta(t)) - (1 - t) * first - t * last)
  end
  return most
end

function pairs_of.compare(what, f, want, at, theta)
  local loss, wrong = off(f, want, at, theta)
  print(("%-34s loss off by %.1e, error by %.1e"):format(what, loss, wrong))
  assert(loss <= 2e-6 and wrong <= 3e-4, what)
end

-- The assignment's value under the stored map and under ours: several maps may be best.
function pairs_of.agrees(p, net, a, b, stored_map, set, class, part)
  local function rows(m)
    local y = net:capture(m, set:batch(1, set.n).x, part, { of = "input" })[part]:to "f64"
    local s = y.shape
    y = y:reshape { y:numel() // s[#s], s[#s] }
    y = y - y:mean(1)
    return y, (y * y):mean(1):sqrt() + 1e-4
  end
  local y, s = rows(a)
  local z, u = rows(b)
  local r = y:t():matmul(z) / y.shape[1] / (s:unsqueeze(2) * u:unsqueeze(1))
  local function value(index) return r:gather(2, index:unsqueeze(2)):sum() end
  local mine, theirs = value(p.maps[class].index[1]), value(stored_map + 1)
  assert(math.abs(mine - theirs) <= 1e-6 * math.abs(theirs), ("%s: %.9f and %.9f"):format(part, mine, theirs))
  return math.tointeger((p.maps[class].index[1] - 1):eq(stored_map):to "i64":sum()), stored_map.shape[1]
end

-- b in the stored order.
function pairs_of.by_stored(b, maps)
  local p, q = maps:tensor "act_match.h1" + 1, maps:tensor "act_match.h2" + 1
  return model.new { ["fc1.weight"] = b["fc1.weight"][p], ["fc1.bias"] = b["fc1.bias"][p],
    ["fc2.weight"] = b["fc2.weight"]:index_select(2, p)[q], ["fc2.bias"] = b["fc2.bias"][q],
    ["fc3.weight"] = b["fc3.weight"]:index_select(2, q), ["fc3.bias"] = b["fc3.bias"] }
end

function pairs_of.ids_of(p)
  local ids = {}
  for c in pairs(p.layout.classes) do ids[#ids + 1] = c end
  table.sort(ids)
  return ids
end

return pairs_of
