-- SPDX-License-Identifier: Apache-2.0
-- model.list, model.checkpoints, merge.swa, merge.lawa: what counts as a checkpoint, in which order,
-- which steps are chosen, and that the averages are those of the chosen ones.
local check = require "check"
local folder <close> = require "folder" ()

local function value(v) return model.new { { "w", tensor { v, -v, 0.5 } }, { "b", tensor { v } } } end
local function at(m) return m["b"]:load():item() end
local function write(name, text)
  local f = assert(io.open(folder(name), "w"))
  f:write(text)
  f:close()
end
local function show(list) return table.concat(list, " ") end
local function short(paths)
  local list = {}
  for i, p in ipairs(paths) do list[i] = p:sub(#folder.path + 2) end
  return show(list)
end

-- ---- a run: folders, one sharded; what is no checkpoint lies beside them ----

value(100):save(folder "run")  -- the last state, as trainers leave it
for _, step in ipairs { 1000, 200, 400, 800, 600 } do
  value(step / 100):save(folder("run/checkpoint-" .. step), step == 400 and { max_shard_size = 12 } or nil)
end
assert(#model.open(folder "run/checkpoint-400") == 2)
assert(os.execute(("mkdir '%s' '%s' && cp '%s' '%s'"):format(folder "run/checkpoint-1200", folder "run/runs",
  folder "run/checkpoint-200/model.safetensors", folder "run/.hidden-7.safetensors")))
write("run/trainer_state-9.json", "{}")
write("run/checkpoint-1200/optimizer.pt", "")

check.equal(short(model.list(folder "run")), "run/checkpoint-200 run/checkpoint-400 run/checkpoint-600 "
  .. "run/checkpoint-800 run/checkpoint-1000 run/model.safetensors")
check.equal(short(model.list(folder "run" .. "/")), short(model.list(folder "run")))
check.equal(show(model.list(folder "run/runs")), "")
check.raises("there is no such folder", model.list, folder "nowhere")
check.equal(show(model.list(folder "run/checkpoint-400")), "")  -- shards are parts

local run, steps = model.checkpoints(folder "run")
check.equal(show(steps), "200 400 600 800 1000")
for i, m in ipairs(run) do check.equal(at(m), steps[i] / 100) end

-- ---- choosing ----

local function chosen(o) return show(select(2, model.checkpoints(folder "run", o))) end
check.equal(chosen { from = 400 }, "400 600 800 1000")
check.equal(chosen { from = 399.5, to = 800 }, "400 600 800")
check.equal(chosen { last = 2 }, "800 1000")
check.equal(chosen { every = 2 }, "200 600 1000")
check.equal(chosen { every = 2, to = 800 }, "400 800")
check.equal(chosen { every = 2, last = 2 }, "600 1000")
check.equal(chosen { every = 10, last = 10 }, "1000")
check.equal(chosen { step = function(name) return tonumber(name:match "(%d)00$") end }, "0 2 4 6 8")
check.raises("unknown option 'form'; did you mean 'from'?", model.checkpoints, folder "run", { form = 1 })
check.raises("last must be a whole number, at least 1, got 0", model.checkpoints, folder "run", { last = 0 })
check.raises("every must be a whole number, at least 1, got 0.5", model.checkpoints, folder "run", { every = 0.5 })
check.raises("no checkpoint within the bounds; its steps go from 200 to 1000", model.checkpoints, folder "run", { from = 2000 })
check.raises("holds no checkpoint with a number in its name", model.checkpoints, folder "run/runs")
check.raises("option step gave boolean for checkpoint-200", model.checkpoints, folder "run",
  { step = function() return true end })

-- ---- names ----

for _, name in ipairs { "epoch=1-step=90.bf16", "epoch=1-step=1000.bf16", "epoch=2-step=2000.bf16", "best" } do
  value(1):save(folder("run/runs/" .. name .. ".safetensors"))
end
check.equal(show(select(2, model.checkpoints(folder "run/runs"))), "90 1000 2000")
check.equal(short(model.list(folder "run/runs")), "run/runs/best.safetensors run/runs/epoch=1-step=90.bf16.safetensors "
  .. "run/runs/epoch=1-step=1000.bf16.safetensors run/runs/epoch=2-step=2000.bf16.safetensors")
value(1):save(folder "run/runs/again-2000.safetensors")
check.raises("are both step 2000", model.checkpoints, folder "run/runs")
check.equal(show(select(2, model.checkpoints(folder "run/runs", { step = function(name)
  return tonumber(name:match "step=(%d+)")
end }))), "90 1000 2000")

-- ---- averages ----

check.equal(at(merge.swa(folder "run")), 6.0)
check.equal(at(merge.swa(folder "run", { from = 600 })), 8.0)
check.equal(at(merge.swa(folder "run", { every = 2, to = 800 })), 6.0)
check.equal(at(merge.lawa(folder "run")), 6.0)
check.equal(at(merge.lawa(folder "run", { window = 2 })), 9.0)
check.equal(at(merge.lawa(folder "run", { window = 2, every = 2 })), 8.0)
check.equal(at(merge.lawa(folder "run", { window = 2, to = 600 })), 5.0)
check.equal(at(merge.lawa(folder "run", { window = 50 })), 6.0)
check.equal(at(merge.lawa(run, { window = 3 })), 8.0)
check.equal(at(merge.lawa { run[1] }), 2.0)
check.equal(at(merge.swa(run, { from = 2, to = 3 })), 5.0)
check.equal(at(merge.median(model.checkpoints(folder "run", { last = 3 }))), 8.0)
check.near(at(merge.ema { decay = 0.5, table.unpack(run) }), (2 + 2 * 4 + 4 * 6 + 8 * 8 + 16 * 10) / 31, 1e-6)
check.equal(merge.lawa(folder "run"):mass(), 1.0)
check.raises("window must be a whole number", merge.lawa, folder "run", { window = 0 })
check.raises("unknown option 'last'", merge.lawa, folder "run", { last = 2 })
check.raises("unknown option 'window'", merge.swa, run, { window = 2 })
check.raises("no model is within the bounds; there are 5", merge.swa, run, { from = 6 })
check.raises("expected a folder of checkpoints, or a list of models", merge.swa, run[1])

-- More than one list of merge.linear can hold: the sum goes on from left to right, then one division.
do
  local many, sum = {}, nil
  for k = 1, 150 do
    many[k] = model.new { { "b", tensor { 1 / k, -1 / k, 3 ^ -k } } }
    sum = sum and sum + many[k] or many[k]
  end
  local m = merge.swa(many)
  check.equal((m["b"] - (sum / 150)["b"]):abs():max(), 0.0)
  check.equal(m:mass(), 1.0)
end
