-- SPDX-License-Identifier: Apache-2.0
-- Representation surgery (Yang et al. 2024, arXiv:2402.02705): a merged network's features are off those of
-- the single models; a small module for each task takes the difference out again, learned from inputs alone.
return function(define, check, core)
  local mix = require "train.mix"(check, core)
  local leaves = require "train.leaves"(core)
  local net_of = require "nn.net"
  local what = "train.surgery"

  local function repaired(z, p)
    return z - z:matmul(p.down:t()):relu():matmul(p.up:t())
  end

  local function all_of(m)
    if core.kind(m) == "table" then return m end
    if core.kind(m) ~= "model" then mix.fail(what, "expected a model for each task, got %s", core.kind(m)) end
    local out = {}
    m = m:load()
    for _, name in ipairs(m:names()) do out[name] = m:tensor(name) end
    return out
  end

  -- The module of one task.
  local function learned(first, theta, single, set, k, o, seed)
    local width
    local feed = mix.feed({ set }, o.batch, math.max(o.steps, 1), seed)
    do
      local z = first(theta, set:batch(1, 1).x)
      width = z.shape[#z.shape]
    end
    local rank = math.min(o.rank, width)
    local dtype = leaves.map(theta, function(t) return t.dtype end)
    local wide = "f32"
    for _, name in pairs(dtype) do if name == "f64" then wide = "f64" end end
    local p = { down = tensor.normal({ rank, width }, seed + k, { dtype = wide }) / math.sqrt(width),
      up = tensor.zeros({ width, rank }, { dtype = wide }) }
    local function objective(q, batches)
      local x = batches[1].x
      return (repaired(first(theta, x), q) - first(single, x)):abs():mean()
    end
    return mix.learn(what, p, objective, feed, { steps = o.steps, optimiser = o.optimiser() })
  end

  local function surgery(net, theta, list, inputs, o)
    o = o or {}
    check(what, o, { "at", "rank", "steps", "batch", "lr", "seed" })
    if not net_of.is(net) then mix.fail(what, "expected a network of nn, which can be cut, got %s", core.kind(net)) end
    if type(o.at) ~= "string" then mix.fail(what, "at is missing: the part of the network that gives the features") end
    if core.kind(list) ~= "table" or #list == 0 or core.kind(inputs) ~= "table" or #inputs ~= #list then
      mix.fail(what, "expected a list of models and a list of data, one for each")
    end
    local first, rest = net:upto(o.at), net:from(o.at)
    local lr = mix.number(what, o, "lr", 1e-3, 0)
    local options = { rank = mix.whole(what, o, "rank", 1, 16), steps = mix.whole(what, o, "steps", 0, 500),
      batch = mix.whole(what, o, "batch", 1, 16), optimiser = function() return train.adam { lr = lr } end }
    local tasks, info = {}, { modules = {}, losses = {} }
    for k, single in ipairs(list) do
      local merged = core.kind(theta) == "table" and theta[k] or theta
      local p, losses = learned(first, all_of(merged), all_of(single), mix.set(what, inputs[k], k), k, options,
        mix.whole(what, o, "seed", 0, 0))
      info.modules[k], info.losses[k] = p, losses
      tasks[k] = function(m, x, how)
        local body = type(x) == "table" and x.x or x
        return (rest(m, repaired(first(m, body, how), p), how))
      end
    end
    return tasks, info
  end

  define(what, "train.surgery(net, theta, {a, b, …}, {data_a, data_b, …}, {at =, rank = 16, steps = 500, batch = 16, "
    .. "lr = 1e-3, seed = 0}) -> functions, info",
    "Representation surgery (Yang et al. 2024, arXiv:2402.02705) of a merged model theta: for each task a module z - "
    .. "W_up relu(W_down z) behind the features z, learned by Adam so that the mean of |z' - z_k| falls, z_k being the "
    .. "features of the task's own model; no labels are needed. Gives a network for each task, to be called and "
    .. "judged as any: eval.accuracy(tasks[1], data)(theta). W_up is zero at the start, where the module changes "
    .. "nothing. info has modules {down =, up =} and losses, for each task.\n"
    .. "  theta: a model, or a list with one for each task (info.tasks of train.ada_merging)\n"
    .. "  at: the part whose output the features are, as in net:upto; what follows is the head\n"
    .. "  rank: the width of the module",
    [[
local net, d, m = nn.mlp { 64, 128, 64, 10 }, data.digits().test, {}
for _, name in ipairs { "base", "low", "high" } do m[name] = model.load("examples/data/" .. name .. ".safetensors") end
local tasks = { d:classes_only { 0, 1, 2, 3, 4 }, d:classes_only { 5, 6, 7, 8, 9 } }
local theta = merge.linear { m.low, m.high }
local nets, info = train.surgery(net, theta, { m.low, m.high }, tasks, { at = "act2", steps = 60, lr = 0.01, seed = 1 })
print(info.losses[1][60] < info.losses[1][1], nets[1](theta:load(), tasks[1]:batch(1, 2).x).shape)
-- > true	[2, 10]
]], surgery)
end
