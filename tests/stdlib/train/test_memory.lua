-- SPDX-License-Identifier: Apache-2.0
-- What a call takes before it is made, and the batch that training names where a step does not fit. Run with 400 MB.
local check = dofile "tests/stdlib/bind/check.lua"

-- ---- compile.memory ----

do
  local calls = 0
  local f = compile(function(x)
    calls = calls + 1
    return x:matmul(x):exp()
  end)
  local little, much = compile.memory(f, tensor.zeros { 100, 100 }), compile.memory(f, tensor.zeros { 400, 400 })
  assert(little >= 2 * 4 * 100 ^ 2 and much >= 2 * 4 * 400 ^ 2 and much < 4 * 4 * 400 ^ 2 + 2 ^ 20, much)
  check.equal(calls, 2)
  check.equal(compile.memory(function(x) return x:matmul(x):exp() end, tensor.zeros { 400, 400 }), much)
  check.equal(compile.memory(function() return 3 end), 0)
  local net, x = nn.mlp { 3, 4, 2 }, tensor.ones { 5, 3 }
  check.equal(compile.memory(net, net:init { seed = 1 }, x), compile.memory(function(t, v) return net(t, v) end,
    net:init { seed = 1 }, x))
  -- more than there is: said, not taken
  local far = tensor.zeros { 1, 1 }:expand { 100000, 1 }
  assert(compile.memory(function(x) return (x * x:t()):sum() + (x:matmul(x:t())):sum() end, far) > 4e10)
  check.raises("compile.memory: expected a function, got number", compile.memory, 3)
  check.raises("not inside a recorded function", grad, function(x)
    return x * compile.memory(function() return 1 end)
  end, tensor { 1 })
end

-- ---- programs of other signatures give way ----

do
  local calls = 0
  local f = compile(function(x)
    calls = calls + 1
    return (x:reshape { 1, -1 } * x:reshape { -1, 1 }):matmul(x):sum()
  end)
  local sums = {}
  for _, n in ipairs { 7000, 7100, 7100, 7000 } do -- some 200 MB each
    sums[#sums + 1] = f(tensor.ones { n }):item()
  end
  check.equal(sums, { 7000.0 ^ 2, 7100.0 ^ 2, 7100.0 ^ 2, 7000.0 ^ 2 })
  check.equal(calls, 3)
end

-- ---- train.fit names the batch ----

-- A run of one step; then some steps of the batch that the error names, and one of clearly more.
local function names(net, d, o)
  o.steps, o.quiet, o.seed = 1, true, 1
  local ok, e = pcall(train.fit, net, d, o)
  check.equal({ ok, e.code }, { false, "OutOfMemory" })
  local n = tonumber(e.message:match "a batch of (%d+) would fit; checkpoint")
  assert(n and n < o.batch, e.message)
  o.batch, o.steps = n, 2
  train.fit(net, d, o)
  o.batch, o.steps = n + n // 8, 1
  ok, e = pcall(train.fit, net, d, o)
  assert(not ok and e.message:find "would fit", "the largest batch is not far from " .. n)
  return n, e.message
end

do
  local d, net = data.two_moons { n = 40000, seed = 1 }, nn.mlp { 2, 4000, 2 }
  local n, message = names(net, d, { batch = 40000 })
  assert(message:find("train.fit: a step of a batch of %d+ takes up to .* are left; a batch of"), message)
  assert(n > 10000)
  names(net, d, { batch = 40000, optimiser = train.sam(train.sgd { lr = 0.1 }), clip = 1 })
  -- More than there are examples: the message counts those.
  local ok, e = pcall(train.fit, net, d, { steps = 1, batch = 10 ^ 6 | 0, quiet = true })
  assert(not ok and e.message:find("a step of a batch of 40000 takes", 1, true), tostring(e))
  -- Targets that are no classes, and a short batch at the end of the epoch.
  names(net, { x = d:batch().x, y = tensor.rand({ 40000, 2 }, 1):softmax(-1) }, { batch = 40000 })
  -- A step that does not fit for one example either.
  ok, e = pcall(train.fit, nn.mlp { 1100, 20000, 2 }, { x = tensor.ones { 2, 1100 }, y = tensor.zeros({ 2 }, { dtype = "i64" }) },
    { steps = 1, quiet = true, batch = 2 })
  assert(not ok and e.message:find "not even a batch of 1 would fit", tostring(e))
end

do -- images, varied; rows that take more than their step does, which find no room themselves
  local d = data.tensors { x = tensor.zeros({ 60000, 40, 40, 1 }, { dtype = "u8" }), y = tensor.zeros({ 60000 }, { dtype = "i64" }), classes = 2 }
  local net = nn.sequential { nn.flatten(), nn.linear(1600, 2) }
  local n = names(net, d, { batch = 60000, augment = { flip = true } })
  assert(n > 10000, n)
  -- Tokens, without labels.
  local text = data.tensors { x = tensor.zeros({ 3000, 64 }, { dtype = "i64" }), tokens = true }
  names(nn.gpt { vocab = 64, context = 64, width = 32, layers = 1, heads = 1 }, text, { batch = 3000 })
end
