-- SPDX-License-Identifier: Apache-2.0
-- A network against reference values of a file as tests/golden/net/networks/README describes: logits, loss, gradient, products with
-- the Hessian and the Gauss-Newton matrix, running statistics, in f32 and f64.
local decode = require "json.decode".decode
local oracle = {}

-- The tensors of a group ("param") by name, and whether there are any.
local function group(m, name, dtype)
  local out, any = {}, false
  for _, full in ipairs(m:names("^" .. name .. "\\.")) do
    local t = m:tensor(full)
    out[full:sub(#name + 2)], any = dtype and t:to(dtype) or t, true
  end
  return out, any
end
oracle.group = group

-- Largest absolute difference over largest absolute value, over whole vectors.
function oracle.distance(got, want)
  local worst, size, n = 0, 0, 0
  for name, w in pairs(want) do
    local g = assert(got[name], "nothing was computed for " .. name)
    if type(g) == "number" then g = tensor({ g }, { dtype = "f64" }) end
    if type(w) == "number" then w = tensor({ w }, { dtype = "f64" }) end
    worst = math.max(worst, (g:to "f64" - w):abs():max())
    size, n = math.max(size, w:abs():max()), n + 1
  end
  assert(n > 0, "nothing to compare")
  return worst / size
end

function oracle.by_name(m, names)
  local out = {}
  for name in pairs(names) do out[name] = m:tensor(name) end
  return out
end

function oracle.read(path)
  local file = model.open(path)
  local meta = file:metadata()
  return file:load(), { setting = decode(meta.setting or "{}"), error = decode(meta.f32_error or "{}"), meta = meta }
end

-- [n, 1, h, w] as [n, h, w, 1]; other inputs as they are.
function oracle.input(m, dtype)
  local x = m:tensor "in.x"
  if #x.shape == 4 and x.shape[2] == 1 then x = x:reshape { x.shape[1], x.shape[3], x.shape[4], 1 } end
  return x.dtype == "f32" and x:to(dtype) or x
end

-- Parameters and buffers as one model.
function oracle.theta(m, dtype)
  local list = {}
  for _, kind in ipairs { "param", "buffer" } do
    for name, t in pairs((group(m, kind, dtype))) do list[#list + 1] = { name, t } end
  end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  return model.new(list)
end

-- o: mode, only (names of what is compared). Prints one line for each precision.
function oracle.check(path, net, o)
  o = o or {}
  local m, about = oracle.read(path)
  for _, dtype in ipairs { "f32", "f64" } do
    local theta, x = oracle.theta(m, dtype), oracle.input(m, dtype)
    local batch = { x = x, y = #m:names "^in\\.labels$" > 0 and m:tensor "in.labels" or nil }
    local vector = model.new((group(m, "vector", dtype)), { mass = 0 })
    local mode = o.mode or "eval"
    local names = {}
    for _, p in ipairs(net:params()) do
      names[#names + 1] = p.name
      assert(theta:info(p.name), p.name)
    end
    assert(#names == #theta, "the network has " .. #names .. " tensors, the file " .. #theta)

    local said = {}
    local function compare(what, got, want)
      local off = oracle.distance(got, want)
      local most = dtype == "f64" and (o.f64 or 1e-11) or math.max(1e-6, 10 * (about.error[what] or 0))
      said[#said + 1] = ("%s %.1e"):format(what, off)
      assert(off <= most, ("%s of %s in %s: off by %.3e, allowed %.1e"):format(what, path, dtype, off, most))
    end
    local y, state = net(theta, batch, { mode = mode })
    compare("logits", { y = y }, { y = m:tensor "logits" })
    local f = net:loss(batch, { mode = mode })
    local want = (group(m, "grad"))
    local loss = m:tensor "loss":item()
    compare("loss", { l = f(theta) }, { l = loss })
    compare("grad", oracle.by_name(f:grad(theta), want), want)
    local H <close> = f:linearize(theta)
    compare("loss", { l = H.value }, { l = loss })
    compare("grad", oracle.by_name(H:grad(), want), want)
    compare("hvp", oracle.by_name(H:hvp(vector), want), (group(m, "hvp")))
    compare("ggnvp", oracle.by_name(H:ggn(vector), want), (group(m, "ggnvp")))
    compare("hvp", oracle.by_name(f:linearize(theta, { keep = false }):hvp(vector), want), (group(m, "hvp")))
    local after, any = group(m, "buffer_after")
    if any then compare("buffer_after", state, after) end
    print(path:match "[^/]*$", dtype, table.concat(said, ", "))
  end
end

-- ---- all reference networks, beside the tree ----

local networks = {
  mlp_relu = function(s) return nn.mlp { sizes = s.sizes, act = s.act } end,
  mlp_gelu_norm = function(s) return nn.mlp { sizes = s.sizes, act = s.act, norm = "layer", eps = s.eps } end,
  resnet_train = function(s) return nn.resnet { widths = s.widths, blocks = { 1, 1, 1 }, eps = s.eps } end,
  vit = function(s)
    return nn.vit { width = s.hidden, layers = s.layers, heads = s.heads, inner = s.inner, patch = s.patch, eps = s.eps }
  end,
  bert = function(s)
    return nn.bert { width = s.hidden, layers = s.layers, heads = s.heads, inner = s.inner, vocab = s.vocab,
      context = s.positions, classes = s.classes, eps = s.eps }
  end,
  llama = function(s)
    return nn.llama { width = s.hidden, layers = s.layers, heads = s.heads, kv_heads = s.kv_heads, inner = s.inner,
      vocab = s.vocab, eps = s.eps, rope_base = s.rope_theta, tied = s.tied }
  end,
}
networks.resnet_eval = networks.resnet_train

oracle.folder = "../shared/oracles/net/networks/"

-- Whether they are there; says so where they are not.
function oracle.here()
  local file = io.open(oracle.folder .. "llama.safetensors", "rb")
  if file then file:close() else print("skipped: " .. oracle.folder .. " is not there") end
  return file ~= nil
end

-- check(path, net, o) on one of them.
function oracle.run(check, name, o)
  local path = oracle.folder .. name .. ".safetensors"
  local _, about = oracle.read(path)
  check(path, networks[name](about.setting), o)
end

return oracle
