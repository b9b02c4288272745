-- SPDX-License-Identifier: Apache-2.0
-- Mistakes around networks, data, training and derivatives, and the one line that each is told in: it names the
-- thing, what was expected and what was found, and the line of the script, wherever in the library it was noticed.
local check = dofile "tests/stdlib/bind/check.lua"

-- `script` fails with this message at its line `line` (1 by default). The lines before it are sound.
local function says(want, script, line)
  local f = assert(load(script, "=script"))
  local ok, err = pcall(f)
  if ok then error("no error; expected: " .. want, 2) end
  err = tostring(err):gsub(" %[%u%w+%]$", "") -- the code
  check.equal(err, ("script:%d: %s"):format(line or 1, want))
end

local net = "local net = nn.mlp { 4, 8, 3 }; local theta, x = net:init { seed = 1 }, tensor.ones { 2, 4 }\n"
local moons = "local d, net = data.two_moons { n = 100, seed = 1 }, nn.mlp { 2, 8, 2 }\n"
local classes = "{ x = tensor.ones { 2, 4 }, y = tensor(%s, { dtype = %q }) }"

-- ---- networks ----

says("fc1 (linear): expected an input whose last dimension is 4, got shape [2, 5]",
  net .. "net(theta, tensor.zeros { 2, 5 })", 2)
says("1 (linear): expected an input whose last dimension is 4, got shape [1, 3]",
  "local net = nn.sequential { nn.linear(2, 3), nn.linear(4, 2) }\nnet(net:init {}, tensor.ones { 1, 2 })", 2)
says("nn: the parameters have no fc2.bias; did you mean fc1.bias?",
  net .. "net(theta:only(function(n) return n ~= 'fc2.bias' end), x)", 2)
says("nn: fc1.weight has the shape [9, 4], expected [8, 4]", net .. "net(nn.mlp { 4, 9, 3 }:init {}, x)", 2)
says("nn: the parameters are a model, or a table of tensors by name, not a tensor: net(theta, x)",
  net .. "net(x, theta)", 2)
says("nn: expected an input tensor or a batch (a table with x), got a table without x", net .. "net(theta, { 1, 2 })", 2)
says("nn: expected an input tensor or a batch (a table with x), got model", net .. "net(theta, theta)", 2)
says('nn: mode = "training"; expected "eval" or "train"', net .. "net(theta, x, { mode = 'training' })", 2)
says("nn.mpl: no such function; did you mean nn.mlp?", "nn.mpl { 4, 8, 3 }")
says("nn.gpt: width 9 does not divide into 2 heads", "nn.gpt { vocab = 10, width = 9, heads = 2, layers = 1, context = 4 }")
says("nn: fc1.weight is planned: the parameters lie in files (theta:load() reads them, 0.1 MB)",
  "local net = nn.mlp { 64, 128, 64, 10 }\nnet(model.open 'examples/data/base.safetensors', tensor.ones { 2, 64 })", 2)
says("1 (dropout): it draws random numbers: net(theta, x, {mode = \"train\", key = …}) needs a key, an integer",
  "local net = nn.sequential { nn.linear(2, 4), nn.dropout(0.5) }\nnet(net:init {}, tensor.ones { 1, 2 }, { mode = 'train' })", 2)

-- ---- losses and labels ----

says('net:loss: loss = cross_entrpy; expected "cross_entropy", "mse", "bce" or a function(y, batch); did you mean '
  .. '"cross_entropy"?', net .. "net:loss({ x = x }, { loss = 'cross_entrpy' })", 2)
says("cross_entropy: label 3 (row 2) is outside 0 to 2", net .. "net:loss(" .. classes:format("{ 0, 3 }", "i64") .. ")(theta)", 2)
says('tensor:cross_entropy: labels are f32 [2]; expected class numbers in an integer dtype (:to("i64")), or '
  .. "probabilities of the shape [2, 3]", net .. "net:loss(" .. classes:format("{ 0, 2 }", "f32") .. ")(theta)", 2)

-- ---- derivatives ----

says("grad: the function must yield one number, not a tensor of shape [2, 3]",
  net .. "grad(function(t) return net(t, x) end, theta)", 2)
says("a value inside a recorded function is not known yet: :item() and :totable() belong outside (return the tensor)",
  net .. "grad(function(t)\nlocal y = net(t, x):sum()\nreturn y * y:item() end, theta)", 4)
says("a comparison inside a recorded function has no answer yet, so it cannot choose what is done: "
  .. "tensor.where(a:gt(b), x, y) chooses between values",
  "local f = compile(function(x)\nif x:sum() > 0 then return x end return -x end)\nf(tensor { 1, 2 })", 2)
says("grad: base is a plan over files; :load() it first (68.9 kB)",
  "grad(function(t) return t:norm() end, model.open 'examples/data/base.safetensors')")
says("grad: there is nothing to differentiate by: `only` chooses no floating-point tensor of it",
  net .. "grad { function(t) return net(t, x):sum() end, theta, only = 'fc9' }", 2)
says('grad: derivatives by i64 values do not exist; convert with :to("f32")',
  "grad(function(x) return (x * x):sum() end, tensor({ 1, 2 }, { dtype = 'i64' }))")
says("hvp: the direction for fc1.weight has the shape [9, 4]; expected [8, 4]",
  net .. "hvp(function(t) return net(t, x):sum() end, theta, nn.mlp { 4, 9, 3 }:init {})", 2)

-- ---- data and training ----

says("train.fit: unknown option 'epoch'; did you mean 'epochs'?", moons .. "train.fit(net, d, { epoch = 3 })", 2)
says("train.fit: data: the data set has no examples", moons .. "train.fit(net, d:subset {}, { epochs = 3 })", 2)
says("train.fit: data: expected a data set or { x =, y = }, got nil", moons .. "train.fit(net)", 2)
says("train.fit: give epochs or steps, not both", moons .. "train.fit(net, d, { epochs = 1, steps = 3 })", 2)
says("train.fit: with drop_last, 100 examples make no batch of 1000",
  moons .. "train.fit(net, d, { batch = 1000, drop_last = true })", 2)
says("net:loss: the data have no labels (y)",
  moons .. "train.fit(net, data.tensors { x = tensor.ones { 8, 2 } }, { quiet = true })", 2)
says("train.fit: no optimiser is called 'adm'; did you mean 'adam'?", moons .. "train.fit(net, d, { optimiser = 'adm' })", 2)
says("nn: fc1.weight has the shape [9, 2], expected [8, 2]",
  moons .. "train.fit(net, d, { start = nn.mlp { 2, 9, 2 }:init {}, quiet = true })", 2)
says("train.fit: the loss is nan at step 2 (epoch 1): the first value that is not finite comes out of layer fc2. "
  .. "A smaller rate, clip = 1 or warm-up may help",
  moons .. "train.fit(net, d, { lr = 1e30, batch = 10, optimiser = 'sgd', quiet = true })", 2)
says("train.fit: examples/data/base.safetensors is no checkpoint of train.fit",
  moons .. "train.fit(net, d, { resume = 'examples/data/base.safetensors' })", 2)
says("nowhere/x.safetensors: there is no such file or folder", moons .. "train.fit(net, d, { resume = 'nowhere/x.safetensors' })", 2)
says("train.sgd: the gradient of fc1.bias has another shape: [9], expected [8]",
  moons .. "train.sgd { lr = 0.1 }:step(net:init {}, nn.mlp { 2, 9, 2 }:init {})", 2)
says("eval.accuracy: expected a network, got dataset", moons .. "eval.accuracy(d, net)", 2)
says("dataset:split: the parts have 120 examples, the data set 100", moons .. "d:split { 0.9, 0.3 }", 2)
says("dataset:batches: augment: unknown option 'flp'; did you mean 'flip'?",
  moons .. "d:batches { size = 10, augment = { flp = true } }()", 2)

-- ---- wrong arguments ----

says("nn.linear: inputs = nil; expected a whole number above 0", "nn.linear(nil, 3)")
says("nn.embedding: width = nil; expected a whole number above 0", "nn.embedding(3)")
says("nn.group_norm: channels = nil; expected a whole number above 0", "nn.group_norm(2)")
says("nn.max_pool2d: size = the text 2; expected a whole number from 1, or {height, width} of such", "nn.max_pool2d '2'")
says("nn.sequential: part 2 is nil; expected a layer", "nn.sequential { 'relu', nil, 'relu' }")
says("nn.branch: expected a list of layers, got nil", "nn.branch()")
says("nn.gpt: width = 1.5; expected a whole number above 0", "nn.gpt { width = 1.5 }")
says("nn.from: expected a model, got string (model.open opens a file)", "nn.from 'a.safetensors'")
says("nn.router: features is a function of the input", "nn.router()")
says("net:upto: expected the name of a part, got nil", net .. "net:upto()", 2)
says("net:init: expected a network, got table (write net:init)", net .. "net.init { seed = 1 }", 2)
says("nn: the parameters are a model, or a table of tensors by name, not a dataset: net(theta, x)",
  net .. "net(data.two_moons(), x)", 2)
says("net:loss: y of the data is a table; expected a tensor with a row for each example",
  net .. "net:loss { x = x, y = { 0, 1 } }", 2)
says("net:loss: the parameters are a model, or a table of tensors by name, not a nil",
  moons .. "net:loss(d):report()", 2)
says("loss:report: expected the loss, got model (write a colon, f:report)",
  moons .. "net:loss(d).report(net:init {})", 2)

says("dataset:split: expected a data set, got number (write d:split)", moons .. "d.split(0.5)", 2)
says("dataset:split: expected shares or counts, { 0.9, 0.1 }, got nil", moons .. "d:split()", 2)
says("dataset:split_classes: expected a list of classes, {0, 1, …}, got 0", moons .. "d:split_classes { 0, 1 }", 2)
says("dataset:with_label_noise: rate must be a share from 0 to 1, got nil", moons .. "d:with_label_noise()", 2)
says("data.tensors: x must be a tensor or nested tables, got nil", "data.tensors()")
says("data.clusters: expected a tensor [n, d], got nil", "data.clusters()")

says("train.fit: expected a network, got model", moons .. "train.fit(net:init {}, d)", 2)
says("train.fit: lr is a number, got string", moons .. "train.fit(net, d, { lr = '0.1' })", 2)
says("train.clip_norm: expected a number as the bound, got nil", "train.clip_norm(tensor { 1 })")
says("train.sam: expected an optimiser, as train.sgd makes, got dataset", moons .. "train.sam(d)", 2)
says("train.cosine: the step is a number, got nil", "train.cosine { base = 1, total = 2 } ()")
says("train.population: expected a table of options, got number", moons .. "train.population(net, d, 4)", 2)
says("train.cold_fusion: expected a network, got nil", moons .. "train.cold_fusion(nil, { d })", 2)
says("train.learned_soup: expected models: { a, b }, got model", moons .. "train.learned_soup(net, net:init {}, d)", 2)
says("train.tangent_load: expected the path of a file, got nil", moons .. "train.tangent_load(net)", 2)
says("average:add: expected the average, got model (write a colon, x:add)", moons .. "train.swa().add(net:init {})", 2)
says("eval.bn_reset: expected a data set, a batch or { x =, y = }, got nil", moons .. "eval.bn_reset(net, net:init {})", 2)
