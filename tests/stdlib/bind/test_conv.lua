-- SPDX-License-Identifier: Apache-2.0
-- Convolution and pooling as a script calls them: numbers and pairs, shapes, errors, planned values, and the
-- derivatives of a small network against differences.
local check = require "check"
local equal, raises, near = check.equal, check.raises, check.near

local x = tensor.randn({ 2, 7, 6, 4 }, 1, { dtype = "f64" })
local w = tensor.randn({ 6, 4, 3, 2 }, 2, { dtype = "f64" })

-- Element (1-based) of the definition.
local function element(n, i, j, o, s, p, d)
  local sum = 0
  for a = 1, 3 do
    for b = 1, 2 do
      local h, v = (i - 1) * s[1] - p[1] + (a - 1) * d[1] + 1, (j - 1) * s[2] - p[2] + (b - 1) * d[2] + 1
      if h >= 1 and h <= 7 and v >= 1 and v <= 6 then
        for c = 1, 4 do sum = sum + x[{ n, h, v, c }] * w[{ o, c, a, b }] end
      end
    end
  end
  return sum
end
for _, case in ipairs {
  { nil, { 1, 1 }, { 0, 0 }, { 1, 1 }, { 2, 5, 5, 6 } },
  { { stride = 2, padding = 1 }, { 2, 2 }, { 1, 1 }, { 1, 1 }, { 2, 4, 4, 6 } },
  { { stride = { 1, 2 }, padding = { 2, 0 }, dilation = { 2, 1 } }, { 1, 2 }, { 2, 0 }, { 2, 1 }, { 2, 7, 3, 6 } },
} do
  local y = x:conv2d(w, case[1])
  equal(y.shape, case[5])
  for n = 1, 2 do
    for i = 1, y.shape[2] do near(y[{ n, i, 1, 3 }], element(n, i, 1, 3, case[2], case[3], case[4]), 1e-12) end
    near(y[{ n, 1, y.shape[3], 6 }], element(n, 1, y.shape[3], 6, case[2], case[3], case[4]), 1e-12)
  end
end
-- A group sees its own channels.
local g = x:conv2d(w[{ {}, { 1, 2 } }], { groups = 2 })
local first = x[{ {}, {}, {}, { 1, 2 } }]:conv2d(w[{ { 1, 3 }, { 1, 2 } }])
check.tensor(g[{ {}, {}, {}, { 1, 3 } }], first:totable())
-- 1 x 1: a product.
local one = tensor.randn({ 5, 4, 1, 1 }, 3, { dtype = "f64" })
local product = x:reshape { 84, 4 }:matmul(one:reshape { 5, 4 }:t()):reshape { 2, 7, 6, 5 }
near((x:conv2d(one) - product):abs():max(), 0, 1e-13)
equal(x:to "f32":conv2d(w:to "f32").dtype, "f32")
equal(x:to "bf16":conv2d(w).dtype, "f64")

-- ---- pooling ----

local p = tensor { 1, 5, 2, 3, 9, 4, 7, 8, 6 }:reshape { 1, 3, 3, 1 }
local function values(t) return t:reshape { t.shape[2] * t.shape[3] }:totable() end
equal(values(p:max_pool2d(2)), { 9.0 })
equal(values(p:max_pool2d(2, { stride = 1 })), { 9.0, 9.0, 9.0, 9.0 })
equal(values(p:max_pool2d(2, { ceil_mode = true })), { 9.0, 4.0, 8.0, 6.0 })
equal(values(p:max_pool2d({ 3, 2 }, { padding = { 1, 0 }, stride = { 2, 1 } })), { 9.0, 9.0, 9.0, 9.0 })
equal(values(p:avg_pool2d(2)), { 4.5 })
equal(values(p:avg_pool2d(2, { padding = 1 })), { 0.25, 1.75, 2.5, 6.75 })
equal(values(p:avg_pool2d(2, { padding = 1, count_include_pad = false })), { 1.0, 3.5, 5.0, 6.75 })
equal(values(p:adaptive_avg_pool2d(1)), { 5.0 })
equal(values(p:adaptive_max_pool2d { 2, 1 }), { 9.0, 9.0 })
-- Of equal pixels the first takes the gradient; a NaN is largest.
local ties = tensor { 2, 2, 1, 2 }:reshape { 1, 2, 2, 1 }
equal(values(grad(function(t) return t:max_pool2d(2):sum() end, ties)), { 1.0, 0.0, 0.0, 0.0 })
local nan = tensor { 1, 0 / 0, 3, 0 / 0 }:reshape { 1, 2, 2, 1 }
assert(values(nan:max_pool2d(2))[1] ~= values(nan:max_pool2d(2))[1])
equal(values(grad(function(t) return t:max_pool2d(2):sum() end, nan)), { 0.0, 1.0, 0.0, 0.0 })

-- ---- a network: gradient and Hessian-vector product against differences ----

local theta = { a = w, b = tensor.randn({ 3, 6, 1, 1 }, 5, { dtype = "f64" }) }
local function loss(t)
  local h = x:conv2d(t.a, { padding = 1, stride = 2 }):tanh():max_pool2d(2)
  return (h:conv2d(t.b):avg_pool2d(2) ^ 2):sum()
end
local v = { a = tensor.randn(w.shape, 6, { dtype = "f64" }), b = tensor.randn({ 3, 6, 1, 1 }, 7, { dtype = "f64" }) }
local function moved(h) return { a = theta.a + h * v.a, b = theta.b + h * v.b } end
local function inner(s) return (s.a * v.a):sum() + (s.b * v.b):sum() end
local slope = inner(grad(loss, theta))
near(slope, (loss(moved(1e-6)) - loss(moved(-1e-6))) / 2e-6, 1e-6 * math.abs(slope))
local bend = inner(hvp(loss, theta, v))
near(bend, (inner(grad(loss, moved(1e-6))) - inner(grad(loss, moved(-1e-6)))) / 2e-6, 1e-6 * math.abs(bend))

-- ---- over a file: the same bits ----

local path = string.format("%s/tarn-test-conv-%d-%d.safetensors", os.getenv "TMPDIR" or "/tmp", os.time(),
  math.floor(os.clock() * 1e6))
model.new { { "x", x:to "f32" }, { "w", w:to "bf16" } }:save(path, { overwrite = true })
do
  local m <close> = model.open(path)
  local n <close> = model.load(path)
  os.remove(path)
  for _, f in ipairs {
    function(t) return t.x:conv2d(t.w, { padding = 1 }) end,
    function(t) return (t.x * 2):conv2d(t.w:relu()):max_pool2d(2):sum() end,
    function(t) return t.x:avg_pool2d(3, { stride = 2, padding = 1 }) end,
  } do
    local planned, here = f { x = m["x"], w = m["w"] }, f { x = n["x"], w = n["w"] }
    equal(tensor.totable(planned), tensor.totable(here))
  end
end

-- ---- what is refused ----

raises("tensor:conv2d: expected an image [n, height, width, channels], got [84, 4]", x.conv2d, x:reshape { 84, 4 }, w)
raises("tensor:conv2d: expected a weight [out, in / groups, height, width], got [4, 4]", x.conv2d, x, tensor.zeros { 4, 4 })
raises("conv2d: expected a weight of 4 channels in (4 of the image, groups = 1), got 5", x.conv2d, x, tensor.zeros { 2, 5, 1, 1 })
raises("conv2d: groups = 3 must divide 4 channels in and 6 out", x.conv2d, x, w, { groups = 3 })
raises("unknown option 'paddin'", x.conv2d, x, w, { paddin = 1 })
raises("tensor:conv2d: stride has 3 elements; expected a number or {height, width}", x.conv2d, x, w, { stride = { 1, 2, 3 } })
raises("conv2d: padding is -1; expected 0 to 2^31", x.conv2d, x, w, { padding = -1 })
raises("reaches over 13 pixels; the image has 7, with padding 9", x.conv2d, x, w, { dilation = { 6, 1 }, padding = 1 })
raises("pool_index: padding 2 for a kernel height of 3; expected half of it at most", x.max_pool2d, x, 3, { padding = 2 })
raises("unknown option 'count_include_pad'", x.max_pool2d, x, 3, { count_include_pad = true })
raises("tensor:avg_pool2d: the kernel size", x.avg_pool2d, x)
raises("pool_mean: kernel height 0", x.adaptive_avg_pool2d, x, { 0, 1 })
