-- SPDX-License-Identifier: Apache-2.0
-- Averages along a run: those of the trainer have the bits of the same averages over the checkpoints that
-- it saved; fading memory follows its closed form; SWAD finds the windows that were worked out by hand.
local check = dofile "tests/stdlib/bind/check.lua"
local folder <close> = dofile "tests/stdlib/bind/folder.lua" ()
local moons = data.two_moons { n = 330, seed = 1 }
local net = nn.sequential { nn.linear(2, 16), nn.batch_norm(16), "relu", nn.linear(16, 2) }

local function same(x, y, what)
  check.equal(#x:names(), #y:names(), what)
  for _, name in ipairs(x:names()) do
    if not x:tensor(name):equal(y:tensor(name)) then error((what or "") .. ": " .. name .. " differs", 2) end
  end
end

local function value(...) return model.new { { "w", tensor({ ... }, { dtype = "f64" }) } } end

-- ---- the trainer and the files it leaves: 7 steps an epoch, a checkpoint after every third ----

local swa, dense, ema = train.swa { from = 15, every = 3 }, train.swa(), train.ema { decay = 0.9, every = 3 }
local lawa, first = train.lawa { window = 4, every = 3 }, train.ema { decay = 0.8, every = 3, start = "first", from = 6 }
local run = folder "run"
os.execute(("mkdir '%s'"):format(run))
local epochs = {}
local theta = train.fit(net, moons, { epochs = 6, batch = 50, lr = 0.05, seed = 1,
  checkpoint = { path = folder "run.safetensors", every = 3, keep = run },
  callbacks = { swa, dense, ema, lawa, first, epoch = function(info) epochs[#epochs + 1] = info.theta() end } })

local list, steps = model.checkpoints(run)
check.equal(table.concat(steps, " "), "3 6 9 12 15 18 21 24 27 30 33 36 39 42")
check.equal(tostring(swa), "train.swa of 10 models")
same(swa:model(), merge.swa(run, { from = 15 }):load(), "SWA")
same(swa:model(), train.swa({ from = 15, every = 3 }):over(run):model(), "SWA over files")
same(dense:model(), merge.linear(epochs):load(), "SWA of epochs")
same(lawa:model(), merge.lawa(run, { window = 4 }):load(), "LAWA")
same(lawa:model(), train.lawa({ window = 4 }):over(run):model(), "LAWA over files")
same(ema:model(), train.ema({ decay = 0.9 }):over(run):model(), "EMA over files")
same(first:model(), train.ema({ decay = 0.8, start = "first", from = 6 }):over(run):model(), "EMA from the first")
local function close(x, y, what)
  y = y:load()
  for _, name in ipairs(x:names()) do
    check.near((x:tensor(name) - y:tensor(name)):abs():max(), 0, 2e-6, what .. " " .. name)
  end
end
list.decay = 0.9
close(ema:model(), merge.ema(list), "merge.ema")
local late = { table.unpack(list, 2) }
late.decay, late.start = 0.8, "first"
close(first:model(), merge.ema(late), "merge.ema from the first")
assert((swa:model() - theta):norm() > 0.01, "the average is not the last model")
assert(swa:model():mass() == 1 and swa:model():config() == theta:config())

-- More than a merge of one list can take.
local many, long = {}, train.swa()
for i = 1, 70 do many[i] = value(math.sin(i), math.cos(i)):cast "f32" end
same(long:over(many):model(), merge.swa(many):load(), "70 models")

-- What the callbacks saw stays as it was, and the average may go on.
local before = swa:model()
swa:add(theta, 43)
same(before, merge.swa(run, { from = 15 }):load(), "an average that was taken")
check.equal(swa.n, 11)

-- ---- batch norms ----

local reset = swa:model(net, moons)
same(reset, eval.bn_reset(net, swa:model(), moons), "BN reset")
assert(not reset["1.running_mean"]:equal(swa:model()["1.running_mean"]))
local plain = nn.mlp { 2, 4, 2 }
local none = train.swa():add(plain:init { seed = 1 }):add(plain:init { seed = 2 })
same(none:model(plain, moons), none:model(), "no batch norms, no change")
check.raises("give a set", function() return swa:model(net) end)

-- ---- digits: with a rate that stays high the averages are better than where the run ends ----

do
  local file = model.load "examples/data/digits.safetensors"
  local function set(name) return { x = file[name .. ".images"], y = file[name .. ".labels"]:to "i64" } end
  local mlp = nn.mlp { 64, 32, 10 }
  local late, fading = train.swa { from = 500 }, train.ema { decay = 0.99 }
  local last = train.fit(mlp, set "train", { epochs = 15, batch = 16, lr = 0.3, optimiser = "sgd", seed = 2,
    callbacks = { late, fading } })
  local f = mlp:loss(set "test")
  assert(f(late:model()) < 0.9 * f(last), ("SWA %g, last %g"):format(f(late:model()), f(last)))
  assert(f(fading:model()) < 0.9 * f(last), ("EMA %g, last %g"):format(f(fading:model()), f(last)))
end

-- ---- closed forms ----

local same_thrice = train.swa()
for _ = 1, 4 do same_thrice:add(value(0.1, 3)) end
same(same_thrice:model(), value(0.1, 3), "the mean of equal models")

for _, o in ipairs { { decay = 0.9 }, { decay = 0.99, warmup = true }, { decay = 0.7, start = "first" },
  { decay = 0.999, start = "first", warmup = true } } do
  local e = train.ema(o)
  for _ = 1, 25 do e:add(value(0.3, -7)) end
  local w = e:model().w
  check.near(w[1], 0.3, 1e-14, "constant input")
  check.near(w[2], -7, 1e-13, "constant input")
end
local function faded(o, n)
  local e = train.ema(o)
  for t = 1, n do e:add(value(t == 1 and 1 or 0)) end
  return e:model().w[1]
end
-- What is left of the first of n: decay^(n-1), with bias correction times (1 - decay)/(1 - decay^n).
check.near(faded({ decay = 0.9, start = "first" }, 8), 0.9 ^ 7, 1e-15)
check.near(faded({ decay = 0.9 }, 8), 0.9 ^ 7 * 0.1 / (1 - 0.9 ^ 8), 1e-15)
check.near(faded({ decay = 0.9, start = "first", warmup = true }, 3), (2 / 11) * (3 / 12), 1e-15)
check.near(faded({ decay = 0 }, 3), 0, 0)
check.near(faded({ decay = 0.999999 }, 4), 0.25, 1e-5)
local half = train.ema { decay = 0.5 }:add(model.new { { "w", tensor { 1, 2 }:cast "bf16" } })
check.equal(half:model().w:totable(), { 1.0, 2.0 })
local mixed = train.swa():add(model.new { { "w", tensor { 1 } }, { "n", tensor({ 3 }, { dtype = "i64" }) } })
mixed:add(model.new { { "w", tensor { 2 } }, { "n", tensor({ 5 }, { dtype = "i64" }) } })
check.equal(mixed:model().n:totable(), { 5 })
check.equal(mixed:model().w:totable(), { 1.5 })

-- A tensor without an axis, which only files hold, stays one.
do
  local path, header = folder "scalar.safetensors", '{"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}'
  header = header .. (" "):rep(-#header % 8)
  local file = assert(io.open(path, "wb"))
  file:write(string.pack("<I8", #header), header, string.pack("<f", 3))
  file:close()
  local m = model.load(path)
  for _, avg in ipairs { train.swa(), train.ema { decay = 0.5, start = "first" }, train.lawa(), train.swag() } do
    local s = avg:add(m):add((3 * m):load()):model():tensor "s"
    check.equal(#s.shape, 0)
    check.equal(s:item(), 6.0, avg.name)
  end
end

-- ---- SWAD ----

local function window(losses, o)
  local s = train.swad(o)
  for k, loss in ipairs(losses) do s:add(value(k), k, loss) end
  local i, j = s:window()
  if not i then return "none" end
  local mean = 0
  for k = i, j do mean = mean + k end
  check.near(s:model().w[1], mean / (j - i + 1), 1e-12, "the mean over the window")
  return i .. " " .. j
end
local three = { converge = 3, tolerate = 2, ratio = 1.5 }
-- 4: the first that is no more than the two behind it; limit 1.5 * (2 + 3 + 2) / 3 = 3.5.
check.equal(window({ 9, 8, 5, 2, 3, 2, 4, 3, 3.6, 3.7, 2, 2 }, three), "4 8") -- 9 and 10 are above; 11 comes too late
check.equal(window({ 9, 8, 5, 2, 3, 2, 4, 3, 3.6, 3.5, 9, 9 }, three), "4 10") -- 3.5 is not above 3.5
check.equal(window({ 9, 8, 5, 2, 3, 2, 4, 3, 3.6 }, three), "4 8") -- at the end nothing speaks for 3.6
check.equal(window({ 9, 8, 5, 2, 3, 2, 4, 3, 3.6, 1 }, three), "4 10")
check.equal(window({ 9, 8, 7, 6, 5 }, three), "none")
check.equal(window({ 9, 8, 7, 6, 5, 5, 5 }, three), "5 7")
check.equal(window({ 1, 1, 1 }, three), "1 3")
check.equal(window({ 3, 2, 1 }, { converge = 1, tolerate = 1, ratio = 1 }), "1 3")
check.equal(window({ 1, 2, 1 }, { converge = 1, tolerate = 1, ratio = 1 }), "1 1")
check.equal(window({ 1, 2, 1 }, { converge = 1, tolerate = 2, ratio = 1 }), "1 3")
check.equal(window({ -1, 2, 1 }, { converge = 1, tolerate = 1, ratio = 1.5 }), "1 1") -- the first is inside in any case
check.raises("no valley yet; 1 were seen", function() return train.swad():add(value(1), 1, 2):model() end)

-- In the trainer: a loss every second step; the mean is that of the steps of its window, dense.
local kept, losses = {}, {}
local held = data.two_moons { n = 100, seed = 2 }
local swad = train.swad { loss = net:loss(held), every = 2, converge = 3, tolerate = 3, ratio = 1.05 }
train.fit(net, moons, { epochs = 8, batch = 50, lr = 0.2, seed = 1, callbacks = { swad, step = function(info)
  kept[info.step] = info.theta()
  if info.step % 2 == 0 then losses[#losses + 1] = net:loss(held)(kept[info.step]) end
end } })
local by_hand = train.swad { converge = 3, tolerate = 3, ratio = 1.05 }
for k, loss in ipairs(losses) do by_hand:add(value(k), k, loss) end
local i, j = by_hand:window()
check.equal({ swad:window() }, { i, j })
close(swad:model(), merge.linear { table.unpack(kept, 2 * i - 1, 2 * j) }, "SWAD")
-- Over the files of a run, every one counts, and every second has a loss.
do
  local o = { every = 6, converge = 1, tolerate = 1, ratio = 1.05 }
  local list, values = model.checkpoints(run), train.swad(o)
  for k = 2, #list, 2 do values:add(value(k), k, net:loss(held)(list[k]:load())) end
  o.loss = net:loss(held)
  local files = train.swad(o):over(run)
  local first, last = values:window()
  check.equal({ files:window() }, { first, last })
  close(files:model(), merge.linear { table.unpack(list, 2 * first - 1, 2 * last) }, "SWAD over files")
end
-- With the loss of epochs, and the run stopped behind the valley.
local stops = train.swad { converge = 1, tolerate = 1, ratio = 1, stop = true }
local _, log = train.fit(net, moons, { epochs = 40, batch = 50, lr = 0.3, seed = 1, val = held, callbacks = stops })
assert(log.stopped == "callback" and #log < 40)
local a, b = stops:window()
check.equal({ a, b }, { 1, #log - 1 })
check.raises("there is no validation loss", train.fit, net, moons, { steps = 7, batch = 50, callbacks = train.swad() })

-- ---- a run that was stopped ----

-- Everything that watches is in the checkpoint: the run that goes on ends with the bits of one that never
-- stopped.
local function watchers()
  return { train.swa { from = 6, every = 3 }, train.ema { decay = 0.95 }, train.ema { start = "first", every = 2 },
    train.lawa { window = 3, every = 4 }, train.swag { rank = 3, every = 5 }, train.collect { every = 8, last = 2 },
    train.collect { every = 9, folder = run },
    train.swad { loss = net:loss(held), every = 3, converge = 2, tolerate = 3, ratio = 1.1 } }
end
for _, cut in ipairs { 5, 16, 29 } do
  local path = folder(("cut%d.safetensors"):format(cut))
  local o = { batch = 50, lr = 0.05, seed = 2, checkpoint = { path = path, every = 100 } }
  local function go(list, steps, resumed, stop)
    o.steps, o.resume, o.callbacks = steps, resumed, { table.unpack(list) }
    o.callbacks.step = stop and function(info) if info.step == stop then info.stop() end end
    return train.fit(net, moons, o)
  end
  local whole = watchers()
  local end_of_it = go(whole, 40, false)
  go(watchers(), 40, false, cut)
  local after = watchers()
  same(go(after, 40, true), end_of_it, "the run")
  for k, w in ipairs(whole) do
    check.equal(after[k].n, w.n, w.name)
    if k < 8 then
      same(after[k]:model(), w:model(), ("%s, cut at %d"):format(w.name, cut))
    else
      check.equal({ after[k]:window() }, { w:window() })
      if w:window() then same(after[k]:model(), w:model(), "SWAD, cut at " .. cut) end
    end
  end
  same(after[5]:sample(1), whole[5]:sample(1), "a draw")
  for i, m in ipairs(whole[6]:models()) do same(after[6]:models()[i], m, "members") end
  for i, m in ipairs(whole[7]:models()) do same(after[7]:models()[i], m:load(), "members in files") end
  check.raises("its averages is train.swa", go, { train.ema() }, 40, true)
end

-- ---- what is refused ----

check.raises("no model has been counted yet", function() return train.swa():model() end)
check.raises("unknown option 'form'; did you mean 'from'?", train.swa, { form = 3 })
check.raises("decay must be a number from 0", train.ema, { decay = 1 })
check.raises("window must be a whole number, at least 1, got 0", train.lawa, { window = 0 })
check.raises("start is \"zero\" or \"first\"", train.ema, { start = "last" })
check.raises("ratio must be a number from 1", train.swad, { ratio = 0.5 })
check.raises("expected a model, got number", function() return train.swa():add(3) end)
check.raises("a model has no w, the first had", function()
  return train.swa():add(value(1)):add(model.new { { "v", tensor { 1 } } })
end)
check.raises("callbacks: expected functions, or averages", train.fit, net, moons, { callbacks = { 3 } })
