-- SPDX-License-Identifier: Apache-2.0
-- Stitching by least squares against normal equations written out and against maps that are planted, by SGD against
-- the least squares loss; distillation into the teacher itself and into a student.
local check = dofile "tests/stdlib/bind/check.lua"

local function near(a, b, tolerance, what)
  check.near((a - b):abs():max(), 0, tolerance, what)
end

local d = data.two_moons { n = 300, noise = 0.15, seed = 1 }
local x, y = d.x:to "f64", d.y
local set = { x = x, y = y }
local net = nn.mlp { 2, 12, 6, 2, act = "tanh" }

local function trained(seed, of)
  return train.fit(of or net, d, { epochs = 20, batch = 50, lr = 0.02, seed = seed, start = (of or net):init { seed = seed } })
end
local function wide(m)
  local list = {}
  for i, name in ipairs(m:names()) do list[i] = { name, m:tensor(name):to "f64" } end
  return model.new(list)
end
local a, b = wide(trained(1)), wide(trained(2))

-- ---- a model to itself: the identity, and nothing lost ----

for _, part in ipairs { "act1", "fc2", "act2" } do
  local s = nn.stitch(net, part, net, part)
  local theta, info = train.stitch(s, a, a, set)
  local w = theta["stitch.weight"]
  check.equal(info.rank, w.shape[1])
  near(w, tensor.eye(w.shape[1]), 1e-5, part)
  near(theta["stitch.bias"], 0, 1e-5, part)
  check.near(info.penalty, 0, 1e-8, part)
  check.near(info.unexplained, 0, 1e-10, part)
  near(s(theta, x), net(a, x), 1e-5, part)
end

-- ---- a map that is planted: activations of b are an affine map of those of a ----

do
  local one, two = nn.sequential { nn.linear(2, 5), "tanh", nn.linear(5, 2) },
    nn.sequential { nn.linear(2, 5), "tanh", nn.linear(5, 3), nn.linear(3, 2) }
  local m = one:init { seed = 1, dtype = "f64" }
  local w, bias = tensor.randn({ 3, 5 }, 2, { dtype = "f64" }), tensor.randn({ 3 }, 3, { dtype = "f64" })
  local n = model.new { { "0.weight", m["0.weight"] }, { "0.bias", m["0.bias"] }, { "2.weight", w }, { "2.bias", bias },
    { "3.weight", tensor.randn({ 2, 3 }, 4, { dtype = "f64" }) }, { "3.bias", tensor.randn({ 2 }, 5, { dtype = "f64" }) } }
  local theta, info = train.stitch(nn.stitch(one, "1", two, "2"), m, n, set, { chunk = 70 })
  near(theta["stitch.weight"], w, 1e-5)
  near(theta["stitch.bias"], bias, 1e-5)
  check.near(info.penalty, 0, 1e-8)
end

-- ---- two models: the normal equations, and that nothing near is better ----

local s = nn.stitch(net, "act1", net, "act2")
local theta, info = train.stitch(s, a, b, set)
local function ones_beside(t) return tensor.cat({ t, tensor.ones({ t.shape[1], 1 }, { dtype = "f64" }) }, 2) end
local from = ones_beside(net:capture(a, x, "act1").act1)
local to = net:capture(b, x, "act2").act2
local solved = from:t():matmul(from):solve(from:t():matmul(to)) -- [13, 6]
near(theta["stitch.weight"], solved[{ { 1, 12 } }]:t(), 1e-5)
near(theta["stitch.bias"], solved[13], 1e-5)
local rest = to - from:matmul(solved)
check.near(info.unexplained, (rest * rest):sum() / ((to - to:mean(1)) ^ 2):sum(), 1e-9)
check.equal(theta["a.fc1.weight"]:equal(a["fc1.weight"]) and theta["b.fc3.bias"]:equal(b["fc3.bias"]), true)
check.near(info.loss, s:loss(set)(theta), 0)
check.near(info.penalty, s:loss(set)(theta) - net:loss(set)(b), 0)
local in_chunks = train.stitch(s, a, b, set, { chunk = 37 })
near(in_chunks["stitch.weight"], theta["stitch.weight"], 1e-8)
local ridged, with_ridge = train.stitch(s, a, b, set, { ridge = 0.1 })
assert(ridged["stitch.weight"]:norm() < theta["stitch.weight"]:norm() and with_ridge.unexplained > info.unexplained)

-- ---- units that are dead, and fewer examples than units ----

do
  local relu = nn.mlp { 2, 40, 2 }
  local m = relu:init { seed = 1, dtype = "f64" }
  local bias = m["fc1.bias"]:clone()
  bias[{ { 1, 10 } }]:fill_(-1e3)
  m = model.new { { "fc1.weight", m["fc1.weight"] }, { "fc1.bias", bias }, { "fc2.weight", m["fc2.weight"] },
    { "fc2.bias", m["fc2.bias"] } }
  local cut = nn.stitch(relu, "act1", relu, "act1")
  local found, told = train.stitch(cut, m, m, set)
  assert(told.rank <= 30)
  check.near(told.penalty, 0, 1e-6)
  check.equal(found["stitch.weight"][{ {}, { 1, 10 } }]:abs():max(), 0.0, "dead units get no weight")
  local few = { x = x[{ { 1, 9 } }], y = y[{ { 1, 9 } }] }
  local _, exact = train.stitch(cut, m, relu:init { seed = 2, dtype = "f64" }, few)
  assert(exact.rank <= 8)
  check.near(exact.unexplained, 0, 1e-6)
end

-- ---- images: a map of channels at each pixel ----

do
  local digits = data.digits().train:take(60)
  local one = nn.conv { 4, "M", 6, input = { 8, 8, 1 }, norm = false, act = "tanh" }
  local two = nn.conv { 4, "M", 8, input = { 8, 8, 1 }, norm = false, act = "tanh" }
  local m, n = one:init { seed = 1, dtype = "f64" }, two:init { seed = 2, dtype = "f64" }
  local cut = nn.stitch(one, "features.2", one, "features.2")
  local found, told = train.stitch(cut, m, m, digits, { val = digits })
  near(found["stitch.weight"], tensor.eye(4), 1e-6)
  check.near(told.penalty, 0, 1e-6)
  local apart = nn.stitch(one, "features.4", two, "features.4")
  check.equal(apart:init({})["stitch.weight"].shape[1], 8)
  local _, other = train.stitch(apart, m, n, digits)
  assert(other.unexplained > 0.01 and other.unexplained < 1)
  check.raises("differ in more than their last dimension", train.stitch, nn.stitch(one, "features.1", two, "features.4"),
    m, n, digits)
end

-- ---- batch norms of the halves stay as they are, also in training ----

do
  local normed = nn.mlp { 2, 8, 8, 2, norm = "batch" }
  local m, n = trained(1, normed), trained(2, normed)
  local cut = nn.stitch(normed, "act1", normed, "act1")
  local found, told = train.stitch(cut, m, n, d, { how = "sgd", epochs = 3, batch = 50, lr = 0.01 })
  for _, name in ipairs(found:names()) do
    local half, rest_of = name:match "^([ab])%.(.*)$"
    if half then check.equal(found:tensor(name):equal((half == "a" and m or n):tensor(rest_of)), true, name) end
  end
  check.equal(#told.log, 3)
end

-- ---- by SGD ----

local sgd, by_sgd = train.stitch(s, a, b, d, { how = "sgd", epochs = 15, batch = 50, lr = 0.02, seed = 1 })
check.near(by_sgd.penalty, by_sgd.loss - net:loss(d)(b), 1e-9)
assert(by_sgd.loss < info.loss, "trained on the loss, the loss is lower than by least squares")
local random, by_random = train.stitch(s, a, b, d, { how = "sgd", from = "random", epochs = 30, batch = 50, lr = 0.02 })
assert(by_random.penalty < 0.1 and by_random.rank == nil)
check.equal(random["a.fc1.weight"]:equal(a["fc1.weight"]), true)
check.equal(sgd["b.fc3.weight"]:equal(b["fc3.weight"]), true)
-- The identity is already the best for a model and itself: nothing moves far.
local same = nn.stitch(net, "act1", net, "act1")
local _, still = train.stitch(same, a, a, d, { how = "sgd", from = "identity", epochs = 0 })
check.near(still.penalty, 0, 1e-7)

check.raises("no identity from 12 to 6", train.stitch, s, a, b, d, { how = "sgd", from = "identity", epochs = 1 })
check.raises("expected a network of nn.stitch", train.stitch, net, a, b, d)
check.raises("how is \"solve\" or \"sgd\"", train.stitch, s, a, b, d, { how = "solv" })
check.raises("did you mean 'ridge'", train.stitch, s, a, b, d, { rigde = 1 })
check.raises("the parameters of b have no fc3.weight", train.stitch, s, a, a:only "fc1.*" - a:only "fc1.*", d)
check.raises("no part act9", nn.stitch, net, "act9", net, "act1")

-- ---- distillation ----

-- A teacher and a student that are the same: the distance is 0, and so is the way that it goes.
local kept, log = train.distil(net, d, { theta = a, teacher = net, start = a, epochs = 1, batch = 50, optimiser = "sgd",
  lr = 0.5 })
check.near(log[1].loss, 0, 1e-10)
check.near((kept - a):norm(), 0, 1e-4)

local teachers = { a, b, (trained(3)) }
local small = nn.mlp { 2, 24, 2 }
local ens = nn.ensemble(net)
local function distance(m) -- the mean of KL(p || q)
  return ens(teachers, d.x):kl_div(small(m, d.x))
end
local unlabelled = data.tensors { x = d.x }
local student, of_student = train.distil(small, unlabelled, { theta = teachers, teacher = ens, epochs = 60, batch = 50,
  lr = 0.02, seed = 1 })
local hard = train.fit(small, d, { epochs = 60, batch = 50, lr = 0.02, seed = 1 })
assert(distance(student) < 0.2 * distance(small:init { seed = 1 }))
assert(distance(student) < distance(hard), "the teacher, not the labels, is what it learns")
check.near(of_student[60].loss, distance(student), 0.02)
-- The loss of a step is what it says it is.
local start = small:init { seed = 5 }
local _, first = train.distil(small, d, { theta = teachers, teacher = ens, start = start, steps = 1, batch = d.n,
  temperature = 3, labels = 0.25 })
local soft = (ens(teachers, d.x) / 3):kl_div(small(start, d.x) / 3) * 9
check.near(first.losses[1], 0.75 * soft + 0.25 * small:loss(d)(start), 1e-5)
-- Without a teacher's network: an ensemble of the student's own.
local twin = train.distil(net, d, { theta = { a, b }, epochs = 1, batch = 100 })
check.equal(twin:numel(), a:numel())
check.raises("labels is a number from 0 to 1", train.distil, net, d, { theta = a, labels = 2 })
check.raises("theta is the teacher's model", train.distil, net, d, {})
check.raises("the loss is the distance from the teacher", train.distil, net, d, { theta = a, loss = "mse" })
