-- SPDX-License-Identifier: Apache-2.0
-- One training run, for test_fit.lua, which starts it as a program of its own.
-- usage: tarn run_fit.lua OUT KIND [CHECKPOINT]
local out, kind, checkpoint = arg[1], arg[2], arg[3]
local d = data.two_moons { n = 330, seed = 1 }
local net = nn.sequential { nn.linear(2, 24), nn.batch_norm(24), "relu", nn.dropout(0.1), nn.linear(24, 2) }
local options = { epochs = 6, batch = 64, optimiser = train.adamw { lr = 0.01, clip = 1 }, schedule = "cosine", seed = 3,
  quiet = true }
if checkpoint then
  options.checkpoint = { path = checkpoint, every = 7 }
  options.resume = true
end
if kind == "wait" then -- until somebody stops it: a step callback that takes its time
  options.epochs = 100000
  options.checkpoint.every = 1000000000
  options.callbacks = { step = function(info)
    if info.step == 5 then
      io.stdout:write "ready\n"
      io.stdout:flush()
    end
  end }
end
train.fit(net, d, options):save(out, { overwrite = true })
