-- SPDX-License-Identifier: Apache-2.0
-- A greedy soup (Wortsman et al. 2022, arXiv:2203.05482). Twelve fine-tunings of one network differ in
-- rate, augmentation and the order of batches. Instead of keeping the best of them, average: all, or those that
-- help on held-out images.
local net, d = nn.mlp { 64, 128, 64, 10 }, data.digits()
local base = model.load "examples/data/base.safetensors"
d.train, d.val = d.train:split { 0.7, 0.3, seed = 1, stratified = true }

local ms = {}
for _, lr in ipairs { 0.001, 0.003, 0.01 } do
  for _, augment in ipairs { false, { noise = 0.2 }, { noise = 0.4 }, { cutout = 3 } } do
    ms[#ms + 1] = train.fit(net, d.train, { start = base, lr = lr, augment = augment or nil, epochs = 10, batch = 32,
      seed = #ms })
  end
end

local score, kept = cache(eval.accuracy(net, d.val)), {}
table.sort(ms, function(x, y) return score(x) > score(y) end)
for _, m in ipairs(ms) do
  local try = { table.unpack(kept) };  try[#try + 1] = m
  if #kept == 0 or score(merge.linear(try)) >= score(merge.linear(kept)) then kept = try end
end

local test = eval.accuracy(net, d.test)
local function row(name, m) print(("%-28s %8.1f %8.1f"):format(name, 100 * score(m), 100 * test(m))) end
print(("%-28s %8s %8s"):format("accuracy, %", "held out", "test"))
row("base", base)
row("worst of the twelve", ms[#ms])
row("best of the twelve", ms[1])
row("all twelve, averaged", merge.linear(ms))
row(("greedy soup, of %d"):format(#kept), merge.linear(kept))
