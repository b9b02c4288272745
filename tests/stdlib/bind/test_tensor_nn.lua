-- SPDX-License-Identifier: Apache-2.0
-- The methods that networks are made of, as scripts call them: options, forms of arguments, reductions,
-- what errors say; inside recordings the same values as outside. Their numbers are held to PyTorch's by
-- test_net_primitives.lua, their kernels to naive twins by tests/vm/op/test_fused.c.
local check = dofile("tests/stdlib/bind/check.lua")
local near, equal, same, raises = check.near, check.equal, check.tensor, check.raises

local function i64(t) return tensor(t, { dtype = "i64" }) end
local function f64(t) return tensor(t, { dtype = "f64" }) end
local function close(a, b, slack)
  equal(tostring(a.shape), tostring(b.shape))
  near((a - b):abs():max(), 0, slack or 1e-12)
end

-- ---- cross entropy ----
local x, y = f64 { { 1, 2, 3 }, { 0, -1, 4 }, { 2, 2, 2 } }, i64 { 2, 0, 1 }
local each = x:cross_entropy(y, { reduction = "none" })
equal(#each, 3)
near(each[3], math.log(3), 1e-14)
near(x:cross_entropy(y), each:mean(), 1e-14)
near(x:cross_entropy(y, { reduction = "sum" }), each:sum(), 1e-14)
near(x:cross_entropy(y, { ignore_index = 0 }), (each[1] + each[3]) / 2, 1e-14)
equal(x:cross_entropy(y, { ignore_index = 0, reduction = "none" })[2], 0.0)
near(x:cross_entropy(i64 { 2, -100, 1 }), x:cross_entropy(i64 { 2, 0, 1 }, { ignore_index = 0 }), 1e-14) -- -100 unless said
local none = x:cross_entropy(i64 { 7, 7, 7 }, { ignore_index = 7 })
assert(none ~= none)  -- a mean over no rows, as in PyTorch
near(x[1]:cross_entropy(2), each[1], 1e-14)  -- one row, one class number
local hot = f64 { { 0, 0, 1 }, { 1, 0, 0 }, { 0, 1, 0 } }
near(x:cross_entropy(hot), each:mean(), 1e-14)
near(x:cross_entropy(hot, { label_smoothing = 0.2 }), x:cross_entropy(y, { label_smoothing = 0.2 }), 1e-14)
close(x:reshape { 1, 3, 3 }:cross_entropy(y:reshape { 1, 3 }, { reduction = "none" }), each:reshape { 1, 3 })
raises("label 3 (row 1) is outside 0 to 2", function() return x:cross_entropy(i64 { 3, 0, 0 }) end)
raises("labels are f32 [3]; expected class numbers in an integer dtype (:to(\"i64\")), or probabilities of the shape [3, 3]",
  function() return x:cross_entropy(tensor { 0, 1, 2 }) end)
raises("reduction is \"mean\", \"sum\" or \"none\", not \"all\"", function() return x:cross_entropy(y, { reduction = "all" }) end)
raises("label_smoothing is a number from 0 to 1", function() return x:cross_entropy(y, { label_smoothing = 2 }) end)
raises("ignore_index is for class numbers", function() return x:cross_entropy(hot, { ignore_index = 1 }) end)
raises("unknown option", function() return x:cross_entropy(y, { smoothing = 1 }) end)

-- ---- the other losses ----
near(f64 { 0 }:bce_with_logits(f64 { 1 }, { pos_weight = 3 }), 3 * math.log(2), 1e-14)
near(f64 { 800, -800 }:bce_with_logits(f64 { 0, 1 }), 800, 1e-12)
equal(grad(function(t) return t:bce_with_logits(f64 { 0.25 }, { reduction = "sum" }) end, f64 { 0 })[1], 0.25)
same(tensor { 1, 2 }:mse_loss(tensor { 3, 5 }, { reduction = "none" }), { 4.0, 9.0 })
equal(tensor { 1, 2 }:mse_loss(tensor { 3, 5 }, { reduction = "sum" }), 13.0)
near(f64 { { 0, -math.huge } }:kl_div(f64 { { 0, 0 } }), math.log(2), 1e-14)

-- ---- norms ----
local v = f64 { { 1, 2, 4 }, { -1, 0, 7 } }
local w, b = f64 { 1, 2, 3 }, f64 { 0, 1, -1 }
close(v:layer_norm(w, b), v:layer_norm(nil, nil, { dims = 1 }) * w + b)
close(v:layer_norm(w, b, 0.5), v:layer_norm(w, b, { eps = 0.5 }))
close(v:layer_norm(nil, nil, { dims = 2 }):reshape { 6 }, v:reshape { 6 }:layer_norm(nil, nil))
close(v:rms_norm(w, 0), v:rms_norm(nil, { eps = 0 }) * w)
close(v:group_norm(1, w, b), v:layer_norm(w, b))
local n, mean, var, count = v:batch_norm_train(w, b, 0.1)
close(n, v:batch_norm(w, b, mean, var, 0.1))
close(mean, v:mean(1))
close(var, v:var(1, { correction = 0 }))
equal(count, 2)
equal(n.dtype, "f64")
raises("weights of the shape of its last dimensions", function() return v:layer_norm(f64 { 1, 2 }) end)
raises("the bias has the shape [2]; expected 3 elements", function() return v:layer_norm(w, f64 { 1, 2 }) end)
raises("2 groups do not divide its channels", function() return v:group_norm(2) end)
raises("the variance has the shape [1]; expected 3 elements", function() return v:batch_norm(w, b, mean, f64 { 1 }) end)
raises("expected [.., channels]", function() return w:batch_norm_train() end)
check.equal(tensor.zeros { 3, 0 }:batch_norm_train(tensor.zeros { 0 }, tensor.zeros { 0 }).shape, { 3, 0 }) -- no channels

-- ---- activations ----
near(f64 { -1 }:softplus(2, 20)[1], math.log(1 + math.exp(-2)) / 2, 1e-15)
near(f64 { 30 }:softplus()[1], 30, 0)
equal(grad(function(t) return t:softplus():sum() end, f64 { 800 })[1], 1.0)
same(tensor { -2, 4 }:leaky_relu(0.25), { -0.5, 4.0 })
raises("beta is a number above 0", function() return v:softplus(0) end)
raises("the form is \"none\" (by erf) or \"tanh\"", function() return v:gelu("erf") end)

-- ---- dropout: the key as a number, as a tensor, as an argument of a recorded function ----
local ones = tensor.ones { 1000 }
local dropped = ones:dropout(0.25, 7)
assert(tensor.equal(dropped, ones:dropout(0.25, i64 { 7 })))
assert(not tensor.equal(dropped, ones:dropout(0.25, 8)))
near(dropped:ne(0):sum(), 750, 60)
near(dropped:max(), 4 / 3, 1e-6)
assert(tensor.equal(grad(function(t) return t:dropout(0.25, 7):sum() end, ones), dropped))
equal(ones:dropout(1, 3):sum(), 0.0)
raises("p is a probability", function() return ones:dropout(1.5, 1) end)
raises("expected an integer or an integer tensor of one element", function() return ones:dropout(0.5, i64 { 1, 2 }) end)
raises("the key is an integer", function() return ones:dropout(0.5, 0.5) end)

-- ---- attention, rope, embeddings ----
local q = tensor.randn({ 2, 4, 5, 6 }, 1):to("f64")
local k, u = tensor.randn({ 2, 2, 5, 6 }, 2):to("f64"), tensor.randn({ 2, 2, 5, 3 }, 3):to("f64")
local rows = tensor(tensor.arange(5), { dtype = "f64" })
local seen = rows:reshape { 5, 1 }:ge(rows)
close(q:attention(k, u, { causal = true }), q:attention(k, u, { mask = seen }))
close(q:attention(k, u, { mask = seen }), q:attention(k, u, { mask = tensor.where(seen, 0.0, -math.huge):to("f64") }))
close(q:attention(k, u), (q * 2):attention(k, u, { scale = 0.5 / math.sqrt(6) }))
raises("expected q [.., heads, T, size]", function() return q:attention(u, u) end)
raises("the mask does not stretch to", function() return q:attention(k, u, { mask = seen[{ { 1, 4 }, {} }] }) end)
close(q:rope(3), q:rope(i64 { 3, 4, 5, 6, 7 }))
close(q:rope { style = "adjacent" }, q:rope(0, { style = "adjacent" }))
near(q:rope(9):dot(k:rope(9):repeat_interleave(2, 2)), q:dot(k:repeat_interleave(2, 2)), 1e-10)  -- turned alike
local twos = {}
for i = 1, q.shape[#q.shape] // 2 do twos[i] = 2 end
close(q:rope(i64 { 0, 2, 4, 6, 8 }, { factors = twos }), q:rope())
raises("factors is a list of numbers", function() return q:rope { factors = 2 } end)
raises("divisors are numbers above 0", function() twos[1] = "x" return q:rope { factors = twos } end)
raises("one divisor for each of", function() return q:rope { factors = { 1, 2, 3, 4, 5, 6, 7, 8, 9 } } end)
raises("factors has 0 numbers", function() return q:rope { factors = {} } end)
raises("style is \"halves\" or \"adjacent\"", function() return q:rope(0, { style = "both" }) end)
raises("one position for each of 5 places", function() return q:rope(i64 { 1, 2 }) end)
same(tensor { { 1, 2 }, { 3, 4 } }:embedding(1), { 3.0, 4.0 })
raises("row 2 is outside 0 to 1", function() return tensor { { 1, 2 }, { 3, 4 } }:embedding(i64 { 2 }) end)
raises("the index is f32; expected integers", function() return tensor { { 1, 2 } }:embedding(tensor { 0, 0 }) end)

-- ---- recorded and compiled: the same bits ----
local function all(a, labels, key)
  local h = a:layer_norm(w, b):gelu():silu():dropout(0.1, key) + a:rms_norm(w):softmax()
  return h:cross_entropy(labels, { label_smoothing = 0.1 }), h:logsumexp(2), h:entropy()
end
local loss, sums, entropies = all(v, i64 { 0, 2 }, 5)
local loss2, sums2, entropies2 = compile(all)(v, i64 { 0, 2 }, i64 { 5 })
equal(loss, loss2)
assert(tensor.equal(sums, sums2) and tensor.equal(entropies, entropies2))
print("ok")
