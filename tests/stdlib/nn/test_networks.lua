-- SPDX-License-Identifier: Apache-2.0
-- Whole networks against PyTorch's float64 (tests/golden/net/networks/README), and the curvature of a small one, dense.
local check = dofile "tests/stdlib/bind/check.lua"
local oracle = dofile "tests/stdlib/nn/oracle.lua"
local folder = "tests/golden/net/"

oracle.check(folder .. "networks/resnet_train.safetensors", nn.resnet { depth = 8, width = 8 }, { mode = "train" })

do
  local _, about = oracle.read(folder .. "networks/vit.safetensors")
  local s = about.setting
  oracle.check(folder .. "networks/vit.safetensors",
    nn.vit { width = s.hidden, layers = s.layers, heads = s.heads, inner = s.inner, patch = s.patch, eps = s.eps })
end

-- The Hessian and the Gauss-Newton matrix of a network of 214 parameters, column by column.
do
  local m, about = oracle.read(folder .. "curvature/small.safetensors")
  local net = nn.mlp { 8, 10, 8, 4, act = about.setting.act }
  local theta = oracle.theta(m, "f64")
  local f = net:loss({ x = m:tensor "in.x":to "f64", y = m:tensor "in.labels" }, { batch = 64 })
  local order = require "json.decode".decode(about.meta.order)
  local H <close> = f:linearize(theta)

  local function flat(g)
    local parts = {}
    for i, name in ipairs(order) do parts[i] = g:tensor(name):reshape { -1 } end
    return tensor.cat(parts)
  end
  local zero = {}
  for _, name in ipairs(order) do zero[name] = tensor.zeros(theta:tensor(name).shape, { dtype = "f64" }) end
  -- The i-th unit vector as a model.
  local function unit(i)
    local list = {}
    for k, name in ipairs(order) do
      local n = zero[name]:numel()
      local t = zero[name]
      if i >= 1 and i <= n then
        t = tensor.arange(n):eq(i - 1):to "f64":reshape(t.shape)
      end
      list[k], i = { name, t }, i - n
    end
    return model.new(list, { mass = 0 })
  end
  local n = m:tensor "grad":numel()
  local hessian, ggn = {}, {}
  for i = 1, n do
    local v = unit(i)
    hessian[i], ggn[i] = flat(H:hvp(v)), flat(H:ggn(v))
  end
  hessian, ggn = tensor.stack(hessian), tensor.stack(ggn)
  local function close(what, got, want)
    local off = (got - want):abs():max() / want:abs():max()
    print(what, off)
    assert(off <= 1e-11, what .. " is off by " .. off)
  end
  local loss = m:tensor "loss":item()
  check.near(H.value, loss, 1e-13)
  close("gradient", flat(H:grad()), m:tensor "grad")
  close("Hessian", hessian, m:tensor "hessian")
  close("Gauss-Newton", ggn, m:tensor "ggn")
  assert((hessian - hessian:t()):abs():max() <= 1e-12, "the Hessian is not symmetric")
  assert((ggn - ggn:t()):abs():max() <= 1e-12, "the Gauss-Newton matrix is not symmetric")
  check.near(f(theta), loss, 1e-13)

  -- Chunks weigh by their rows: the same numbers from chunks of 10.
  local g = net:loss({ x = m:tensor "in.x":to "f64", y = m:tensor "in.labels" }, { batch = 10 })
  check.near(g(theta), loss, 1e-13)
  close("gradient in chunks", flat(g:grad(theta)), m:tensor "grad")
  local G <close> = g:linearize(theta)
  local v = unit(17)
  close("Hessian in chunks", flat(G:hvp(v)), m:tensor "hessian"[17])
  close("Gauss-Newton in chunks", flat(G:ggn(v)), m:tensor "ggn"[17])
  -- and a second time from what was kept
  close("kept", flat(G:hvp(v)), m:tensor "hessian"[17])
  close("not kept", flat(g:linearize(theta, { keep = false }):ggn(v)), m:tensor "ggn"[17])
  local closed = g:linearize(theta)
  closed:close()
  check.raises("this linearisation is closed", closed.hvp, closed, v)

  -- A table of tensors is as good as a model.
  local t = {}
  for _, name in ipairs(order) do t[name] = theta:tensor(name) end
  local grad_table = f:grad(t)
  assert((grad_table["fc1.weight"] - f:grad(theta):tensor "fc1.weight"):abs():max() == 0)

  -- Inside a recording the loss is an expression: the derivative along a line.
  local d = unit(3)
  local slope = grad(function(a) return f(theta + a * d) end, 0.0)
  check.near(slope, m:tensor "grad"[3], 1e-12)
end
