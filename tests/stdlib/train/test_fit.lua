-- SPDX-License-Identifier: Apache-2.0
-- The training loop: it learns; the same seeds give the same bytes for any number of threads; a seed
-- changes its part alone; a run that was stopped goes on to the same bytes; what goes wrong is told.
local check = dofile "tests/stdlib/bind/check.lua"
local moons = data.two_moons { n = 330, seed = 1 }
local small = nn.mlp { 2, 16, 2 }

local function same(a, b)
  for _, name in ipairs(a:names()) do
    if not a:tensor(name):equal(b:tensor(name)) then return false end
  end
  return #a:names() == #b:names()
end

-- ---- it learns ----

local theta, log = train.fit(small, moons, { epochs = 25, batch = 32, lr = 0.02, seed = 1, val = moons })
assert(eval.accuracy(small, moons)(theta) > 0.95, "two moons: " .. eval.accuracy(small, moons)(theta))
check.equal(#log, 25)
check.equal(#log.losses, 25 * 11)
check.equal(log[25].step, 275)
assert(log[25].loss < log[1].loss and log[25].val_loss < 0.15)
check.near(log[25].val_accuracy, eval.accuracy(small, moons)(theta), 1e-12)
local sum = 0 -- the loss of an epoch counts its short last batch by its size: 10 of 32, one of 10
for i = 1, 11 do sum = sum + log.losses[i] * (i < 11 and 32 or 10) end
check.near(log[1].loss, sum / 330, 1e-12)
check.equal(theta:config(), small:init({ seed = 1 }):config())

local file = model.load "examples/data/digits.safetensors"
local digits = { x = file["train.images"], y = file["train.labels"]:to "i64" }
local held = { x = file["test.images"], y = file["test.labels"]:to "i64" }
local mlp = nn.mlp { 64, 32, 10 }
local trained = train.fit(mlp, digits, { epochs = 12, batch = 64, optimiser = train.sgd { lr = 0.1, momentum = 0.9 }, seed = 1 })
local accuracy = eval.accuracy(mlp, held)(trained)
assert(accuracy > 0.93, "digits: " .. accuracy)

-- The loop is what its parts are: batches, a gradient, a step of the optimiser.
do
  local opt, m = train.sgd { lr = 0.1, momentum = 0.5 }, small:init { seed = 5 }
  local p = {}
  for _, name in ipairs(m:names()) do p[name] = m:tensor(name) end
  for _, b in moons:batches { size = 64, epochs = 2, seed = 5 } do
    p = opt:step(p, grad(function(q) return small(q, b, { mode = "train" }):cross_entropy(b.y) end, p))
  end
  local fitted = train.fit(small, moons, { epochs = 2, batch = 64, seed = 5, optimiser = train.sgd { lr = 0.1, momentum = 0.5 } })
  for name, t in pairs(p) do check.near((t - fitted:tensor(name)):abs():max(), 0, 1e-6, name) end
end

-- ---- seeds ----

local function run(o)
  local all = { epochs = 2, batch = 50, lr = 0.01 }
  for key, v in pairs(o) do all[key] = v end
  return train.fit(small, moons, all)
end
local a = run { seed = 1 }
assert(same(a, run { seed = 1 }) and same(a, run { seed = { init = 1, order = 1, augment = 1, dropout = 1 } }))
assert(not same(a, run { seed = 2 }))
-- Without dropout and augmentation their seeds change nothing; order and init do.
assert(same(a, run { seed = { init = 1, order = 1, augment = 8, dropout = 9 } }))
assert(not same(a, run { seed = { init = 1, order = 2, augment = 1, dropout = 1 } }))
assert(same(run { seed = { init = 7, order = 1 }, start = small:init { seed = 1 } }, run { seed = { init = 1, order = 1 } }))

-- With them each seed changes its part alone: the first loss tells, since it is computed before any update.
do
  local d = data.digits().train:take(100)
  local net = nn.sequential { nn.flatten(), nn.linear(64, 16), "relu", nn.dropout(0.5), nn.linear(16, 10) }
  local function first(seed, augment)
    local _, l = train.fit(net, d, { steps = 1, batch = 100, augment = augment, seed = seed })
    return l.losses[1]
  end
  local shift = { shift = 1 }
  local one = first({ init = 1, order = 1, augment = 1, dropout = 1 }, shift)
  check.equal(first({ init = 1, order = 1, augment = 1, dropout = 1 }, shift), one)
  assert(first({ init = 2, order = 1, augment = 1, dropout = 1 }, shift) ~= one)
  assert(first({ init = 1, order = 1, augment = 2, dropout = 1 }, shift) ~= one)
  assert(first({ init = 1, order = 1, augment = 1, dropout = 2 }, shift) ~= one)
  check.equal(first { init = 1, order = 1, augment = 2, dropout = 1 }, first { init = 1, order = 1, augment = 1, dropout = 1 })
end

-- ---- what is trained, and how ----

local start = small:init { seed = 1 }
local only = run { start = start, only = "fc2" }
assert(only["fc1.weight"]:equal(start["fc1.weight"]) and not only["fc2.weight"]:equal(start["fc2.weight"]))
local seen = {}
run { epochs = 1, schedule = train.cosine { warmup = 2 }, callbacks = { step = function(i) seen[#seen + 1] = i.rate end } }
local rate = train.cosine { base = 0.01, total = 7, warmup = 2 }
for t = 0, 6 do check.equal(seen[t + 1], rate(t), "rate of step " .. t + 1) end
local _, clipped = train.fit(small, moons, { steps = 3, lr = 0.1, clip = 1e-6, optimiser = train.sgd {} })
check.near(clipped.losses[1], clipped.losses[3], 0.3)
local tiny = train.fit(small, moons, { steps = 1, batch = 330, lr = 1, clip = 1e-3, optimiser = train.sgd {}, start = start })
check.near((tiny - start):norm(), 1e-3, 1e-5, "a clipped step has the length of the clip times the rate")
local wide = train.fit(small, moons, { steps = 2, start = small:init { dtype = "f64" } })
check.equal(wide["fc1.weight"].dtype, "f64")
for _, opt in ipairs { train.sam(train.sgd { lr = 0.1 }), train.lookahead(train.adam { lr = 0.02 }, { k = 3 }) } do
  local _, l = train.fit(small, moons, { epochs = 20, batch = 64, optimiser = opt, seed = 1 })
  assert(l[20].loss < 0.4 and l[20].loss < l[1].loss, tostring(opt))
end

-- Losses of one's own, and networks that are functions.
local line = { x = tensor.linspace(-1, 1, 64):reshape { 64, 1 } }
line.y = 3 * line.x + 1
local function affine(p, b) return b.x * p.a + p.b end
local found = train.fit(affine, line, { steps = 200, batch = 64, optimiser = train.sgd { lr = 0.3 }, loss = "mse",
  start = model.new { { "a", tensor { 0.0 } }, { "b", tensor { 0.0 } } } })
check.near(found.a[1], 3, 1e-3)
check.near(found.b[1], 1, 1e-3)
local cubic = train.fit(affine, line, { steps = 100, batch = 64, optimiser = train.sgd { lr = 0.3 }, start = found,
  loss = function(y, b) return ((y - b.y) ^ 2):sum() / b.y:numel() end })
check.near(cubic.a[1], 3, 1e-3)

-- Batch norms: running statistics move in training, and are what torch's formula says for one batch.
do
  local net = nn.sequential { nn.batch_norm(2), nn.linear(2, 2) }
  local after = train.fit(net, moons, { steps = 1, batch = 330, seed = 1 })
  local x = moons:batch().x
  check.near((after["0.running_mean"] - 0.1 * x:mean(1)):abs():max(), 0, 1e-6)
  check.near((after["0.running_var"] - (0.9 + 0.1 * x:var(1))):abs():max(), 0, 1e-6)
end

-- num_batches_tracked, as PyTorch writes it (no dimensions), is counted up where a checkpoint has it.
do
  local name = os.tmpname() .. ".safetensors"
  local header = '{"0.num_batches_tracked":{"dtype":"I64","shape":[],"data_offsets":[0,8]}'
  local at, values = 8, { 1, 1, 0, 0, 0, 0, 1, 1 }
  for _, part in ipairs { "weight", "bias", "running_mean", "running_var" } do
    header = header .. (',"0.%s":{"dtype":"F32","shape":[2],"data_offsets":[%d,%d]}'):format(part, at, at + 8)
    at = at + 8
  end
  header = header .. "}"
  local file = assert(io.open(name, "wb"))
  file:write(string.pack("<s8", header), string.pack("<i8", 40), string.pack("<" .. ("f"):rep(8), table.unpack(values)))
  file:close()
  local net, theirs = nn.sequential { nn.batch_norm(2) }, model.load(name)
  local function count(m)
    local info = m:info "0.num_batches_tracked"
    check.equal({ info.dtype, #info.shape }, { "i64", 0 })
    return m["0.num_batches_tracked"]:reshape { 1 }[1]
  end
  check.equal(count((train.fit(net, moons, { steps = 5, batch = 60, start = theirs, checkpoint = name .. ".ckpt.safetensors" }))), 45)
  check.equal(count((train.fit(net, moons, { steps = 7, batch = 60, start = theirs, checkpoint = name .. ".ckpt.safetensors" , resume = true }))), 47)
  check.equal(count(eval.bn_reset(net, theirs, moons, { batch = 110 })), 3)
  local _, state = net(theirs, moons:batch().x, { mode = "train" })
  check.equal(state["0.num_batches_tracked"][1], 41)
  assert(select(2, net(net:init {}, moons:batch().x, { mode = "train" }))["0.num_batches_tracked"] == nil)
  os.remove(name)
  os.remove(name .. ".ckpt.safetensors")
end

-- Labels of -100 do not count, in the loss of a step, of an epoch and in the accuracy.
do
  local all = moons:batch()
  local part = { x = all.x[{ { 1, 60 } }], y = all.y[{ { 1, 60 } }] }
  local more = { x = all.x[{ { 1, 100 } }], y = tensor.cat({ part.y, tensor.full({ 40 }, -100, { dtype = "i64" }) }, 1) }
  local o = { steps = 1, batch = 100, optimiser = "sgd", lr = 0.1, start = start, seed = 1 }
  local a, alog = train.fit(small, part, o)
  local b, blog = train.fit(small, more, o)
  check.near((a - b):norm(), 0, 1e-6)
  check.near(blog[1].loss, alog[1].loss, 1e-6)
  check.equal(blog[1].accuracy, alog[1].accuracy)
  o.batch = 50 -- batches with different numbers of rows that count
  o.steps, o.lr = 2, 1e-9
  _, blog = train.fit(small, more, o)
  check.near(blog[1].loss, alog[1].loss, 1e-5)
  check.near(blog[1].accuracy, alog[1].accuracy, 1e-12)
  -- Tokens: rows are predictions, not sequences.
  local lm = nn.gpt { vocab = 4, context = 8, width = 8, layers = 1, heads = 2 }
  local ids = { x = tensor.arange(48):to "i64":reshape { 6, 8 } % 4 }
  local _, log = train.fit(lm, ids, { epochs = 1, batch = 6, lr = 1e-9, seed = 1 })
  local r = lm:loss(ids):report(lm:init { seed = 1 })
  check.near(log[1].accuracy, r.accuracy, 1e-12)
  check.near(log[1].loss, r.loss, 1e-6)
end

-- ---- loops of one's own: a curve between two models, coefficients of a merge ----

do
  local net, d, f = small, { train = moons }, small:loss(moons)
  local a = train.fit(net, d.train, { seed = 1, epochs = 20, batch = 32, lr = 0.01 })
  local b = train.fit(net, d.train, { seed = 2, epochs = 20, batch = 32, lr = 0.01 })
  local mid, opt = 0.5 * a + 0.5 * b, train.adam { lr = 1e-2 }
  local phi = function(m, t) return (1-t)^2 * a + 2*t*(1-t) * m + t^2 * b end
  local before = f(phi(mid, 0.5))
  for i, batch in d.train:batches { epochs = 20, seed = 1 } do
    local t = tensor.uniform({ 1 }, i)
    mid = opt:step(mid, grad(function(m) return net:loss(batch)(phi(m, t)) end, mid))
  end
  assert(f(phi(mid, 0.5)) < 0.7 * before, "the curve is lower than the line")

  local base = net:init { seed = 3 }
  local tau = { a - base, b - base }
  local c, adam = tensor.full({ #tau, net.depth }, 0.3), train.adam { lr = 1e-2 }
  local function entropy(c, x)
    local th = base
    for k, t in ipairs(tau) do th = th + by.depth(c[k]:clamp(0, 1)) * t end
    return net(th, x):entropy():mean()
  end
  local at_first = entropy(c, d.train:batch())
  for _, x in d.train:batches { size = 16, steps = 40, seed = 1 } do c = adam:step(c, grad(entropy, c, x)) end
  assert(entropy(c, d.train:batch()) < at_first, "AdaMerging lowers the entropy")
end

-- ---- callbacks, early stop ----

local epochs = {}
local last, cut = train.fit(small, moons, { epochs = 10, callbacks = function(info)
  epochs[#epochs + 1] = { info.epoch, info.step, info.theta() }
  if info.epoch == 3 then info.stop() end
end })
check.equal(#epochs, 3)
check.equal(cut.stopped, "callback")
check.equal(#cut, 3)
assert(same(epochs[3][3], last) and not same(epochs[2][3], last), "models given to callbacks stay as they were")

-- With a rate that grows the loss gets worse; the best epoch comes back.
local kept, stopped = train.fit(small, moons, { epochs = 60, batch = 64, optimiser = train.sgd {}, val = moons, seed = 1,
  schedule = function(t) return t < 60 and 0.5 or 60 end, early_stop = { patience = 3 } })
check.equal(stopped.stopped, "early")
assert(#stopped < 40, "it stops: " .. #stopped)
local least = math.huge
for _, row in ipairs(stopped) do least = math.min(least, row.val_loss) end
check.near(small:loss(moons)(kept), least, 1e-9, "the best model comes back")
check.equal(stopped[#stopped - 3].val_loss, least)

-- ---- NaN ----

local path = os.tmpname()
os.remove(path)
local ckpt = path .. ".safetensors"
local ok, message = pcall(train.fit, small, moons, { epochs = 5, batch = 66, seed = 1, optimiser = train.sgd {},
  schedule = function(t) return t < 7 and 0.1 or 1e30 end, checkpoint = { path = ckpt, every = 5 } })
assert(not ok)
message = tostring(message)
assert(message:find("step 9", 1, true) or message:find("step 10", 1, true), message)
assert(message:find "layer" or message:find "fc%d", message)
assert(message:find("holds step 5", 1, true), message)
assert(#train.fit(small, moons, { steps = 6, batch = 66, seed = 1, optimiser = train.sgd {}, resume = ckpt,
  schedule = function() return 0.1 end }):names() == 4, "the last good checkpoint can be gone on from")
os.remove(ckpt)
-- A step whose loss is finite and whose parameters are not any more is not written over the last good one.
check.raises("is not finite after step 8 (epoch 2); " .. ckpt .. " holds step 7", train.fit, small, moons, { epochs = 5, batch = 66,
  seed = 1, optimiser = train.sgd {}, schedule = function(t) return t < 7 and 0.1 or 1e300 end, checkpoint = { path = ckpt, every = 1 } })
assert(train.fit(small, moons, { steps = 8, batch = 66, seed = 1, optimiser = train.sgd {}, resume = ckpt,
  schedule = function() return 0.1 end })["fc1.weight"]:isfinite():all())
os.remove(ckpt)
local poisoned = { x = tensor { { 1, 0 / 0 } }, y = tensor({ 0 }, { dtype = "i64" }) }
check.raises("the batch holds values that are not finite", train.fit, small, poisoned, { steps = 1 })
local broken = small:init { seed = 1 }
broken = model.new { { "fc1.weight", broken["fc1.weight"] }, { "fc1.bias", broken["fc1.bias"] },
  { "fc2.weight", broken["fc2.weight"] }, { "fc2.bias", tensor { 0, 1 / 0 } } }
check.raises("fc2.bias was not finite before it", train.fit, small, moons, { steps = 1, start = broken })

-- ---- resuming ----

local function straight(o)
  local all = { epochs = 4, batch = 60, seed = 2, optimiser = train.adamw { lr = 0.01 }, schedule = "one_cycle", val = moons }
  for key, v in pairs(o or {}) do all[key] = v end
  return train.fit(small, moons, all)
end
local whole, whole_log = straight()
for _, stop_at in ipairs { 1, 6, 13 } do
  pcall(straight, { checkpoint = { path = ckpt, every = 1 }, callbacks = { step = function(info)
    if info.step == stop_at + 1 then error "the machine is gone" end
  end } })
  local resumed, resumed_log = straight { checkpoint = { path = ckpt, every = 5 }, resume = true }
  assert(same(whole, resumed), "resumed after step " .. stop_at)
  check.equal(#resumed_log, 4)
  check.equal(resumed_log.losses, whole_log.losses, "losses")
  check.equal(resumed_log[1].val_loss, whole_log[1].val_loss)
  check.equal(resumed_log[4].loss, whole_log[4].loss)
  os.remove(ckpt)
end
-- Early stopping and Lookahead keep what they need.
local function ahead(o)
  local all = { epochs = 6, batch = 60, seed = 2, optimiser = train.lookahead(train.sgd { lr = 0.1, momentum = 0.9 }, { k = 4 }),
    val = moons, early_stop = 4 }
  for key, v in pairs(o or {}) do all[key] = v end
  return train.fit(small, moons, all)
end
local one = ahead()
ahead { checkpoint = ckpt, callbacks = function(i) if i.epoch == 2 then i.stop() end end }
assert(same(one, ahead { checkpoint = ckpt, resume = true }), "with a wrapper")
do -- names with a slash
  local function slashed(p, b) return b.x * p["a/1"] + p["b%2F"] end
  local function part(o)
    return train.fit(slashed, line, { steps = o and o.steps or 6, batch = 64, optimiser = train.adam { lr = 0.1 }, loss = "mse",
      start = model.new { { "a/1", tensor { 0.0 } }, { "b%2F", tensor { 0.0 } } }, checkpoint = o and ckpt .. "2.safetensors",
      resume = o ~= nil })
  end
  part { steps = 3 }
  assert(same(part(), part {}), "names with a slash")
  os.remove(ckpt .. "2.safetensors")
end
check.raises("is of another run: its batch is 60, not 61", ahead, { checkpoint = ckpt, resume = true, batch = 61 })
check.raises("there is none", train.fit, small, moons, { resume = true })
os.remove(ckpt)
assert(same(whole, straight { checkpoint = ckpt, resume = true }), "resume without a file begins anew")
local folder = path .. ".d"
straight { checkpoint = { path = ckpt, every = 12, keep = folder } }
local models, steps = model.checkpoints(folder)
check.equal(steps, { 12, 24 })
assert(same(models[2]:load(), whole))
os.execute(("rm -rf '%s' '%s'"):format(folder, ckpt))

-- ---- logs ----

local function lines(name)
  local out = {}
  for line in io.lines(name) do out[#out + 1] = line end
  return out
end
train.fit(small, moons, { epochs = 2, log = path .. ".csv" })
local rows = lines(path .. ".csv")
check.equal(#rows, 3)
check.equal(rows[1], "epoch,step,loss,accuracy,rate,val_loss,val_accuracy,seconds")
assert(rows[3]:find "^2,6,0%.%d+,0%.%d+,0%.001,,,%d", rows[3])
train.fit(small, moons, { epochs = 2, log = path .. ".jsonl", val = moons })
rows = lines(path .. ".jsonl")
check.equal(#rows, 2)
check.equal(require "json.decode".decode(rows[2]).epoch, 2)
assert(require "json.decode".decode(rows[2]).val_accuracy > 0.3)
os.remove(path .. ".csv")
os.remove(path .. ".jsonl")

-- ---- threads, stops: programs of their own ----

local function shell(command)
  local pipe = io.popen(('tarn="$(readlink /proc/$PPID/exe)"; %s'):format(command))
  local text = pipe:read "a"
  pipe:close()
  return text
end
local program = "tests/stdlib/train/run_fit.lua"
for _, threads in ipairs { 1, 2, 8 } do
  check.equal(shell(('"$tarn" --threads %d %s %s.%d.safetensors run; echo $?'):format(threads, program, path, threads)), "0\n")
end
local reference = model.load(path .. ".1.safetensors")
for _, threads in ipairs { 2, 8 } do
  assert(same(reference, model.load(("%s.%d.safetensors"):format(path, threads))), threads .. " threads")
end
-- A stop: the exit code, and a checkpoint that the rest of the run starts from.
local stopped_text = shell(([[
"$tarn" --time 60s %s %s.x.safetensors wait %s >%s.out 2>%s.err & pid=$!
n=0; until grep -q ready %s.out || [ $n -gt 400 ]; do sleep 0.05; n=$((n+1)); done
kill -TERM $pid; wait $pid; echo $?
"$tarn" inspect %s >/dev/null && echo there
]]):format(program, path, ckpt, path, path, path, ckpt))
check.equal(stopped_text, "143\nthere\n")
shell(("rm -f %s.*"):format(path))

-- ---- mistakes ----

check.raises("did you mean 'epochs'", train.fit, small, moons, { epoch = 3 })
check.raises("give epochs or steps", train.fit, small, moons, { epochs = 1, steps = 1 })
check.raises("expected a network", train.fit, 3, moons)
check.raises("expected a data set", train.fit, small, 3)
check.raises("did you mean 'adam'", train.fit, small, moons, { optimiser = "adan" })
check.raises("did you mean 'cosine'", train.fit, small, moons, { schedule = "cosin" })
check.raises("batch is a whole number", train.fit, small, moons, { batch = 0 })
check.raises("log is the path", train.fit, small, moons, { log = "x.txt" })
check.raises("give start", train.fit, affine, line)
check.raises("there is no rate", train.fit, small, moons, { optimiser = train.sgd {} })
