-- SPDX-License-Identifier: Apache-2.0
-- 68 operations of networks against PyTorch in float64 (tests/golden/net/primitives): value, gradient of each
-- operand, derivative along a direction, and second derivatives by forward over reverse and by reverse
-- over reverse; in f64 to 1e-11, in f32 to ten times the error of PyTorch's own f32, not below 1e-6 (largest
-- difference over largest value).
local check = require "check"
local decode = require "json.decode".decode

local folder = "tests/golden/net/primitives/"

-- Operations that do not exist yet. Empty when all is done; one that works must not be here.
local waiting = {}

-- ---- from PyTorch's conventions to ours ----

local function dims(list)
  local out = {}
  for i, d in ipairs(list) do out[i] = d < 0 and d or d + 1 end
  return out
end
local function dim(d) return d < 0 and d or d + 1 end
local function last(t) -- channels from the second to the last dimension
  if t.rank == 2 then return t end
  return t:permute(1, 3, 4, 2)
end
local function second(t)
  if t.rank == 2 then return t end
  return t:permute(1, 4, 2, 3)
end

local ops = {}
for _, name in ipairs { "exp", "log", "tanh", "sigmoid", "erf", "neg", "sin", "cos", "sqrt", "rsqrt", "relu", "abs", "sign", "silu", "log1p" } do
  ops[name] = function(x) return x.x[name](x.x) end
end
function ops.add(x) return x.a + x.b end
function ops.sub(x) return x.a - x.b end
function ops.mul(x) return x.a * x.b end
function ops.div(x) return x.a / x.b end
function ops.pow(x) return x.a ^ x.b end
function ops.pow_scalar(x, a) return x.x ^ a.exponent end
function ops.reciprocal(x) return 1 / x.x end
function ops.matmul(x, a)
  local l = a.transpose_a and x.a:transpose(-2, -1) or x.a
  local r = a.transpose_b and x.b:transpose(-2, -1) or x.b
  return l:matmul(r)
end
function ops.linear(x) return x.x:matmul(x.weight:t()) + x.bias end
function ops.gelu_erf(x) return x.x:gelu("none") end
function ops.gelu_tanh(x) return x.x:gelu("tanh") end
function ops.softplus(x, a) return x.x:softplus(a.beta, a.threshold) end
function ops.leaky_relu(x, a) return x.x:leaky_relu(a.negative_slope) end
function ops.clamp(x, a) return x.x:clamp(a.min, a.max) end
function ops.where(x) return tensor.where(x.mask, x.a, x.b) end
function ops.masked_fill(x, a) return x.x:masked_fill(x.mask, a.value) end
function ops.sum(x, a) return x.x:sum(dims(a.dim), a.keepdim) end
function ops.mean(x, a) return x.x:mean(dims(a.dim), a.keepdim) end
function ops.max(x, a)
  return x.x:max(dim(a.dim), a.keepdim), { indices = x.x:argmax(dim(a.dim), a.keepdim) - 1 }
end
function ops.var(x, a) return x.x:var(dims(a.dim), { correction = a.correction, keepdim = a.keepdim }) end
function ops.logsumexp(x, a) return x.x:logsumexp(dims(a.dim), { keepdim = a.keepdim }) end
function ops.softmax(x, a) return x.x:softmax(dim(a.dim)) end
function ops.log_softmax(x, a) return x.x:log_softmax(dim(a.dim)) end
function ops.cumsum(x, a) return x.x:cumsum(dim(a.dim)) end
function ops.cross_entropy(x, a)
  return x.logits:cross_entropy(x.target,
    { reduction = a.reduction, label_smoothing = a.label_smoothing, ignore_index = a.ignore_index })
end
function ops.cross_entropy_soft(x, a) return x.logits:cross_entropy(x.target, { reduction = a.reduction }) end
function ops.mse(x, a) return x.x:mse_loss(x.target, { reduction = a.reduction }) end
function ops.bce_with_logits(x, a)
  return x.x:bce_with_logits(x.target, { reduction = a.reduction, pos_weight = x.pos_weight })
end
function ops.kl_div(x) return x.x:kl_div(x.y) end
function ops.layer_norm(x, a) return x.x:layer_norm(x.weight, x.bias, a.eps) end
function ops.rms_norm(x, a) return x.x:rms_norm(x.weight, a.eps) end
function ops.group_norm(x, a) return second(last(x.x):group_norm(a.groups, x.weight, x.bias, a.eps)) end
function ops.batch_norm_eval(x, a)
  return second(last(x.x):batch_norm(x.weight, x.bias, x.running_mean, x.running_var, a.eps))
end
function ops.batch_norm_train(x, a)
  local y, mean, var, n = last(x.x):batch_norm_train(x.weight, x.bias, a.eps)
  local keep = 1 - a.momentum
  return second(y), { running_mean = keep * x.running_mean + a.momentum * mean,
    running_var = keep * x.running_var + a.momentum * n / (n - 1) * var }
end
function ops.conv2d(x, a)
  return second(last(x.x):conv2d(x.weight,
    { stride = a.stride, padding = a.padding, dilation = a.dilation, groups = a.groups }) + x.bias)
end
function ops.max_pool2d(x, a)
  return second(last(x.x):max_pool2d(a.kernel_size, { stride = a.stride, padding = a.padding, ceil_mode = a.ceil_mode }))
end
function ops.avg_pool2d(x, a)
  return second(last(x.x):avg_pool2d(a.kernel_size, { stride = a.stride, padding = a.padding,
    ceil_mode = a.ceil_mode, count_include_pad = a.count_include_pad }))
end
function ops.adaptive_avg_pool2d(x, a) return second(last(x.x):adaptive_avg_pool2d(a.output_size)) end
function ops.adaptive_max_pool2d(x, a) return second(last(x.x):adaptive_max_pool2d(a.output_size)) end
function ops.embedding(x) return x.weight:embedding(x.index) end
function ops.scatter_add(x, a) return x.x:scatter_add(dim(a.dim), x.index + 1, x.src) end
function ops.index_add(x) return x.x:index_add(1, x.index + 1, x.src) end
function ops.gather(x, a) return x.x:gather(dim(a.dim), x.index + 1) end
function ops.concat(x, a) return tensor.cat({ x.a, x.b, x.c }, dim(a.dim)) end
function ops.slice(x, a)
  local range = {}
  for i, s in ipairs(a.slices) do range[i] = { s[1] + 1, s[2], s[3] } end
  return x.x[range]
end
function ops.transpose(x, a) return x.x:permute(dims(a.order)) end
function ops.reshape(x, a) return x.x:reshape(a.shape) end
function ops.pad(x, a)
  local pairs_ = {}
  for d = 1, x.x.rank do
    local at = 2 * (x.x.rank - d) -- the last dimension stands first
    pairs_[d] = { a.pad[at + 1] or 0, a.pad[at + 2] or 0 }
  end
  return x.x:pad(pairs_, { value = a.value })
end
function ops.repeat_interleave(x, a) return x.x:repeat_interleave(a.repeats, dim(a.dim)) end
function ops.broadcast_to(x, a) return x.x:expand(a.shape) end
function ops.dropout(x, a) return tensor.where(x.mask, x.x, 0) / (1 - a.p) end -- the mask is given
function ops.attention(x, a) return x.q:attention(x.k, x.v, { causal = a.causal }) end
function ops.rope(x, a) return x.x:rope(x.positions, { base = a.base, style = a.layout }) end

-- ---- one case in one dtype ----

local worst = { f32 = 0, f64 = 0 }

local function near(got, want, bound, dtype, what)
  if want.rank == 0 then want = want:item() else check.equal(got.shape, want.shape, what .. ": shape") end
  local top = tensor.abs(want):max()
  local off = tensor.abs(got - want):max() / (top > 0 and top or 1)
  if off ~= off or off > bound then
    error(("%s in %s: off by %.3g of the largest value; at most %.3g"):format(what, dtype, off, bound), 0)
  end
  worst[dtype] = math.max(worst[dtype], off / bound)
end

local function run(m, meta, dtype)
  local function read(name)
    local t = m:tensor(name)
    return t.dtype:find("^f") and t:to(dtype) or t
  end
  local attrs, f32_error = decode(meta.attrs), decode(meta.f32_error)
  local x, along, fixed, is = {}, {}, {}, {}
  for _, name in ipairs(decode(meta.differentiable)) do is[name] = true end
  local outs = {}
  for _, name in ipairs(m:names()) do
    local input, more = name:match("^in%.(.+)$"), name:match("^out%.(.+)$")
    if input and is[input] then x[input], along[input] = read(name), read("tangent." .. input)
    elseif input then fixed[input] = read(name)
    elseif more then outs[more] = m:tensor(name) end
  end
  local function f(given)
    local all = {}
    for k, v in pairs(fixed) do all[k] = v end
    for k, v in pairs(given) do all[k] = v end
    return ops[meta.op](all, attrs)
  end
  local function bound(kind)
    return dtype == "f64" and 1e-11 or math.max(1e-6, 10 * f32_error[kind])
  end
  local label = meta.op .. "." .. meta.case
  local cotangent = read("cotangent")
  local out, more = f(x)
  near(out, m:tensor("out"), bound("out"), dtype, label .. ": value")
  for k, want in pairs(outs) do near(more[k], want, bound("out"), dtype, label .. ": " .. k) end
  local function pull(given) return (vjp(f, given, cotangent)) end
  local g = pull(x)
  near((jvp(f, x, along)), m:tensor("jvp"), bound("jvp"), dtype, label .. ": jvp")
  local function product(given)
    local s = 0
    for k, v in pairs(pull(given)) do s = s + (v * along[k]):sum() end
    return s
  end
  local reverse = grad(product, x)
  for k in pairs(x) do
    near(g[k], m:tensor("vjp." .. k), bound("vjp"), dtype, label .. ": vjp of " .. k)
    -- Absent: piecewise linear, the second derivative is zero.
    local want = f32_error.second and m:tensor("second." .. k) or m:tensor("vjp." .. k) * 0
    local forward = jvp(function(given) return pull(given)[k] end, x, along)
    near(forward, want, bound(f32_error.second and "second" or "vjp"), dtype, label .. ": forward over reverse, " .. k)
    near(reverse[k], want, bound(f32_error.second and "second" or "vjp"), dtype, label .. ": reverse over reverse, " .. k)
  end
end

-- ---- all of them ----

local count, names, seen = 0, {}, {}
for name in io.popen("ls " .. folder .. "*.safetensors"):lines() do names[#names + 1] = name end
for _, name in ipairs(names) do
  local m = model.load(name)
  local meta = model.open(name):metadata()
  local late = false
  for _, w in ipairs(waiting) do late = late or w == meta.op end
  seen[meta.op] = true
  for _, dtype in ipairs { "f32", "f64" } do
    local ok, err = pcall(run, m, meta, dtype)
    if late and ok then error(meta.op .. " works: take it off the list `waiting`") end
    if not late and not ok then error(err, 0) end
  end
  count = count + 1
end
local kinds = 0
for name in pairs(seen) do
  kinds = kinds + 1
  assert(ops[name], name)
end
check.equal(kinds, 68)
check.equal(count, 144)
assert(worst.f64 > 0 and worst.f32 > 0)
