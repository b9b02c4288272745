-- SPDX-License-Identifier: Apache-2.0
-- Two specialists of Fashion-MNIST and fourteen ways to merge them, as one table. A base network saw 2000
-- images; two were fine-tuned from it, on classes 0-4 and on 5-9. As in the papers, each task chooses among its own
-- classes. Every merge is one model for both tasks; `needs` says what it asks for beside the models: nothing, images
-- of each task without labels, or labels too.
-- The images come from `apt install dataset-fashion-mnist`; the run takes some ten seconds.
local d = data.fashion_mnist()
local trunk = nn.mlp { 784, 256, 128, 10 }

-- The network with the outputs of some classes only.
local function head(first, last)
  local closed = {}
  for class = 0, 9 do closed[class + 1] = (class < first or class > last) and -1e9 or 0 end
  closed = tensor(closed)
  return nn.sequential { trunk, function(z) return z + closed end }
end

local training, held_out = d.train:split { 0.95, 0.05, seed = 1, stratified = true }
local whole, tasks = head(0, 9), {}
for k, classes in ipairs { { 0, 1, 2, 3, 4 }, { 5, 6, 7, 8, 9 } } do
  local val = held_out:classes_only(classes)
  local net = head(classes[1], classes[#classes])
  tasks[k] = { net = net, train = training:classes_only(classes), val = val,
    inputs = data.tensors { x = val:batch().x }, -- without labels
    test_accuracy = eval.accuracy(net, d.test:classes_only(classes)), val_accuracy = eval.accuracy(net, val) }
end
local function each(f) return f(tasks[1], 1), f(tasks[2], 2) end

-- ---- training ----

local base = train.fit(whole, training:take(2000), { epochs = 2, seed = 1 })
local how = { start = base, epochs = 1, lr = 3e-4, seed = 2 }
local a, b = each(function(task) return train.fit(task.net, task.train, how) end)
local joint = train.fit(whole, training, how)

-- ---- the table ----

local function row(name, needs, m)
  m = m:load()
  local x, y = each(function(task) return 100 * task.test_accuracy(m) end)
  print(("%-36s %-8s %6.1f %6.1f %8.1f"):format(name, needs, x, y, (x + y) / 2))
end
local function rule() print(("-"):rep(68)) end

print(("%-36s %-8s %6s %6s %8s"):format("accuracy, %", "needs", "0-4", "5-9", "average"))
rule()
row("base", "", base)
row("specialist of 0-4", "", a)
row("specialist of 5-9", "", b)
row("trained on both", "", joint)
rule()
row("linear", "", merge.linear { a, b })
row("Karcher mean", "", merge.karcher { a, b })
row("task arithmetic, lambda 0.3", "", merge.task_arithmetic { base = base, a, b, lambda = 0.3 })
row("TIES, density 0.2", "", merge.ties { base = base, a, b, density = 0.2 })
row("DARE, density 0.5", "", merge.dare_linear { base = base, a, b, weight = 0.5, density = 0.5, seed = 1 })
row("DELLA, density 0.5", "", merge.della { base = base, a, b, density = 0.5, seed = 1 })
row("model stock", "", merge.model_stock { base = base, a, b })
row("TSV-M", "", merge.tsv_m { base = base, a, b })

local theta, inputs = { a, b }, { each(function(task) return task.inputs end) }
local fisher = { each(function(task, k) return probe.fisher(task.net, theta[k], task.inputs) end) }
row("Fisher", "images", merge.fisher { a, b, fisher = fisher })
local gram = { each(function(task, k) return probe.gram(task.net, theta[k], task.inputs) end) }
row("RegMean", "images", merge.regmean { a, b, gram = gram })
local nets, options = { each(function(task) return task.net end) }, { steps = 200, lr = 3e-3, seed = 1 }
options.by = "task"
row("AdaMerging by task", "images", (train.ada_merging(nets, { base = base, a, b }, inputs, options)))
options.by = "layer"
row("AdaMerging by layer", "images", (train.ada_merging(nets, { base = base, a, b }, inputs, options)))

local function score(m)
  local x, y = each(function(task) return task.val_accuracy(m) end)
  return (x + y) / 2
end
row("greedy soup, base and both", "labels", (search.greedy_soup(score, { base, a, b })))
local best, most
for lambda = 1, 10 do
  local m = merge.task_arithmetic { base = base, a, b, lambda = lambda / 10 }
  local s = score(m)
  if not most or s > most then best, most = m, s end
end
row("task arithmetic, best lambda", "labels", best)
