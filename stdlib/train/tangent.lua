-- SPDX-License-Identifier: Apache-2.0
-- A network made linear in its parameters around one model (Ortiz-Jimenez et al. 2023, arXiv:2305.12827). Trained
-- and merged there, task vectors do not disturb one another by the curvature of the network: outputs are sums.
return function(define, check, core)
  local mix = require "train.mix"(check, core)
  local net_of = require "nn.net"

  -- What is expanded (floating parameters) and what stays (buffers, integers) of the base.
  local function parts(what, net, base)
    if core.kind(base) ~= "model" then mix.fail(what, "expected a model to expand at, got %s", core.kind(base)) end
    local floats, fixed, buffer = mix.floats(what, base), {}, {}
    for _, p in ipairs(net_of.is(net) and net:params() or {}) do buffer[p.name] = p.buffer end
    local m = base:load()
    local params = {}
    for _, name in ipairs(m:names()) do
      if floats[name] and not buffer[name] then
        params[name] = floats[name]
      else
        fixed[name] = floats[name] or m:tensor(name)
      end
    end
    return params, fixed
  end

  local function tangent(net, base)
    local what = "train.tangent"
    mix.runs(what, net)
    local params, fixed = parts(what, net, base)
    return function(theta, x)
      local is_table = core.kind(theta) == "table"
      if not is_table and core.kind(theta) ~= "model" then
        mix.fail(what, "expected a model or a table of tensors, got %s", core.kind(theta))
      end
      local v = {}
      for name, t in pairs(params) do
        local now = is_table and theta[name] or not is_table and theta:tensor(name)
        if not now then mix.fail(what, "the parameters have no %s", name) end
        v[name] = now - t
      end
      local change, y = jvp(function(p) return (net(mix.with(fixed, p), x, { mode = "eval" })) end, params, v)
      return y + change
    end
  end

  define("train.tangent", "train.tangent(net, base) -> function",
    "The network in the tangent space of a model (Ortiz-Jimenez et al. 2023, arXiv:2305.12827): f(theta, x) = "
    .. "net(base, x) + J(x) (theta - base), the Jacobian taken at base. One product with J in a call, two to three "
    .. "times the work of the network. Train it as any network that is a function: train.fit(f, data, {start = "
    .. "base}); merge task vectors by algebra, and judge the sum by f again: eval.accuracy(f, data). In f outputs "
    .. "are exactly net(base, x) + sum_k c_k J tau_k for base + sum_k c_k tau_k. Models that were tuned as usual can "
    .. "be judged by it too. Buffers are those of base, and dropout is off.",
    [[
local net = nn.mlp { 2, 8, 2, act = "tanh" }
local base, a, b = net:init { seed = 1 }, net:init { seed = 2 }, net:init { seed = 3 }
local f, x = train.tangent(net, base), tensor { { 0.5, -1 } }
local apart = f(a, x) + f(b, x) - 2 * net(base, x)
local together = f(base + (a - base) + (b - base), x) - net(base, x)
print((f(base, x) - net(base, x)):norm(), (apart - together):norm() < 1e-5)
-- > 0.0	true]], tangent)

  define("train.tangent_save", "train.tangent_save(path, base, theta, {overwrite = false})",
    "Writes what a network in tangent space needs into one .safetensors file, so that neither is without the other: "
    .. "the model where it is expanded, as base.NAME, and theta - base, as delta.NAME.",
    [[
local net, path = nn.mlp { 2, 3, 2 }, os.tmpname() .. ".safetensors"
local base, theta = net:init { seed = 1 }, net:init { seed = 2 }
train.tangent_save(path, base, theta)
local f, again = train.tangent_load(net, path)
print((again - theta):norm() < 1e-6, f(again, tensor { { 1, 2 } }).shape)
os.remove(path)
-- > true	[1, 2]
]],
    function(path, base, theta, o)
      local what = "train.tangent_save"
      check(what, o, { "overwrite" })
      if type(path) ~= "string" or not path:find "%.safetensors$" then
        mix.fail(what, "expected the path of a .safetensors file")
      end
      local from, to = mix.floats(what, base), mix.floats(what, theta)
      local m, list = base:load(), {}
      for _, name in ipairs(m:names()) do list[#list + 1] = { "base." .. name, m:tensor(name) } end
      for _, name in ipairs(m:names()) do
        if from[name] then
          if not to[name] then mix.fail(what, "the model has no %s", name) end
          list[#list + 1] = { "delta." .. name, to[name] - from[name] }
        end
      end
      model.new(list):save(path, { overwrite = o and o.overwrite or false })
    end)

  define("train.tangent_load", "train.tangent_load(net, path) -> function, theta, base",
    "Reads what train.tangent_save wrote: the network in tangent space, and the model to call it with, base + delta.",
    "local ok, message = pcall(train.tangent_load, nn.mlp { 2, 2 }, \"nowhere.safetensors\")\nprint(ok)\n-- > false",
    function(net, path)
      mix.runs("train.tangent_load", net)
      if type(path) ~= "string" then
        mix.fail("train.tangent_load", "expected the path of a file, got %s", core.kind(path))
      end
      local m, lists = model.load(path), { base = {}, delta = {} }
      for _, name in ipairs(m:names()) do
        local part, rest = name:match "^(%a+)%.(.*)$"
        if not lists[part] then
          mix.fail("train.tangent_load", "%s: not a file of train.tangent_save (it holds %s)", path, name)
        end
        table.insert(lists[part], { rest, m:tensor(name) })
      end
      local base = model.new(lists.base)
      return tangent(net, base), base + model.new(lists.delta, { mass = 0 }), base
    end)
end
