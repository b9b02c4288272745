-- SPDX-License-Identifier: Apache-2.0
-- Two specialists of five digits each, from one start: merges that know the data are better than the mean, in
-- memory and from files alike.
local d = data.digits()
local net = nn.mlp { 64, 32, 10 }
local base = train.fit(net, d.train:take(200), { seed = 1, epochs = 2, lr = 1e-3, quiet = true })
local low, high = d.train:classes_only { 0, 1, 2, 3, 4 }, d.train:classes_only { 5, 6, 7, 8, 9 }
local function specialist(part, seed)
  return train.fit(net, part, { start = base, seed = seed, epochs = 15, batch = 32, lr = 3e-3, quiet = true })
end
local a, b = specialist(low, 1), specialist(high, 2)
local accuracy, score = eval.accuracy(net, d.test), {}
local function measure(name, m)
  score[name] = accuracy(m)
  print(("%-10s %.3f"):format(name, score[name]))
  return m
end

measure("a", a)
measure("b", b)
measure("mean", merge.linear { a, b })
local fa, fb = probe.fisher(net, a, low), probe.fisher(net, b, high)
local fisher = measure("fisher", merge.fisher { a, b, fisher = { fa, fb } })
local ga, gb = probe.gram(net, a, low), probe.gram(net, b, high)
local regmean = measure("regmean", merge.regmean { a, b, gram = { ga, gb } })
measure("regmean++", search.regmean_plus(net, { a, b }, { low, high }))
local ia, oa = probe.moments(net, a, low)
local ib, ob = probe.moments(net, b, high)
local mats = measure("mats", merge.mats { a, b, inputs = { ia, ib }, outputs = { oa, ob } })
measure("matching", merge.gradient_matching { base = base, a, b, fisher = { fa, fb },
  base_fisher = probe.fisher(net, base, d.train) })

assert(score.mean > score.a and score.mean > score.b)
for name, by in pairs { fisher = 0.08, matching = 0.05, mats = 0.1, regmean = 0.2, ["regmean++"] = 0.2 } do
  assert(score[name] > score.mean + by, name)
end
assert(score.regmean > 0.9 and score["regmean++"] > 0.88)

-- Statistics are models: saved and opened, they give the same merge.
local folder = os.tmpname()
os.remove(folder)
local function stored(name, m)
  local path = folder .. name .. ".safetensors"
  m:save(path)
  return model.open(path), path
end
local paths = {}
local function keep(name, m)
  local opened, path = stored(name, m)
  paths[#paths + 1] = path
  return opened
end
local pa, pb = keep("a", a), keep("b", b)
local function same(name, got, want)
  got, want = got:load(), want:load()
  for _, tensor_name in ipairs(want:names()) do
    assert(got:tensor(tensor_name):equal(want:tensor(tensor_name)), name .. ": " .. tensor_name)
  end
end
same("fisher", merge.fisher { pa, pb, fisher = { keep("fa", fa), keep("fb", fb) } }, fisher)
same("regmean", merge.regmean { pa, pb, gram = { keep("ga", ga), keep("gb", gb) } }, regmean)
same("mats", merge.mats { pa, pb, inputs = { keep("ia", ia), keep("ib", ib) }, outputs = { keep("oa", oa), keep("ob", ob) } }, mats)
for _, path in ipairs(paths) do os.remove(path) end
