-- SPDX-License-Identifier: Apache-2.0
-- barrier A B: how high the loss rises between two networks
--
-- A and B are checkpoints of one network. The loss is measured along the straight line between them; printed are the
-- barrier (the greatest height above the chord) of the loss and of the error, the error above the mean of the ends,
-- and the loss half-way. With --align B is first moved close to A, without changing what it computes, and the line
-- before and after is shown.
--
-- The network comes from the config.json of A, or from --net: a name alone, as mlp (which takes its sizes from
-- the tensors) or resnet; a name and what stands in its braces, as mlp:784,512,10,act="tanh"; or a Lua file that
-- returns a network. DATA is fashion or digits (their training images; fashion:test and digits:test are the others),
-- a .csv file with the label in its last column, IMAGES,LABELS in the format of MNIST, a .safetensors file with the
-- tensors x and y, or a Lua file that returns a data set.
--
-- Ctrl-C keeps the points that are done in the journal (beside the picture where --journal names none); the same
-- command goes on from there.
--
-- Options:
--   --net NET         the network, where no config.json says it
--   --data DATA       what the loss is measured on
--   --normalise MEAN,STD   of images: x becomes (x - MEAN) / STD
--   --examples N      at most so many of the data (default 10000)
--   --points N        points of the line, with both ends (default 25)
--   --bn HOW          running statistics of batch norms: interpolate (default), keep (those of A), or reset: made
--                     anew at every point over training images
--   --align METHOD    move B close to A: weights, activations, mudsc, cca, ot, ste, sinkhorn; see `tarn help align`
--   --repair          after --align, give the features between the two the spread that they lost
--   --seed N          seed of the matching (default 0)
--   -o, --out FILE    the picture, .svg or .png; what it shows as .data.json beside it
--   --journal FILE    keep points there as they come
--   --json            one object, with all points

local command = require "command"
local measured = require "measured"
local args = command.parse()

measured.check(args)
local method = measured.method(args)
if args.repair and not method then command.misused("--repair is for networks that are aligned: give --align METHOD") end

measured.run(function()
  local net, said, models = measured.models(args, { args[1], args[2] })
  local a, b, set = models[1], models[2], measured.data(args)
  local f, bn = net:loss(set), measured.bn(args)
  local journal = measured.journals(args)

  -- The record and its path, which the picture shows under that name.
  local function line(name, label, other, curve)
    local barrier = probe.barrier(f, a, other, { points = args.points, bn = bn, label = label, curve = curve,
      journal = journal(name) })
    return { name, barrier }
  end

  local records = { line(nil, "as they are", b) }
  records[1][1] = "as_they_are"
  if method then
    local moved = measured.aligned(args, net, a, b)
    records[2] = line("matched", "matched by " .. method, moved)
    if args.repair then
      local spread = measured.data(args, "train")
      records[3] = line("repaired", "and repaired", moved, function(t)
        if t == 0 or t == 1 then return t == 0 and a:load() or moved end
        return (align.repair(net, a, moved, { t = t, data = spread, examples = 2000 }))
      end)
    end
  end
  journal.done()
  measured.draw(args, function()
    local paths = {}
    for k, pair in ipairs(records) do paths[k] = pair[2].path end
    return plot.path(table.unpack(paths))
  end)
  measured.say(args, { { "network", said }, { "data", measured.data_text(set) } }, records)
end)
