-- SPDX-License-Identifier: Apache-2.0
-- What the commands that measure networks share (barrier, plane, spectrum, similarity, instability): checkpoints with
-- their network and data, matching, where pictures and journals lie, and how results are said.
local command = require "command"
local json = require "json"
local network = require "network"
local plainly = require("mergekit.run").plainly
local record = require "probe.record"

local measured = {}

-- measured.run(f): f, whose errors are told without the place in the command.
measured.run = plainly

local function model_of(net, path, quiet)
  local m = model.open(path)
  network.fits(net, m, path, quiet)
  return m
end

-- measured.models(args, paths) -> network, how it is called, models
function measured.models(args, paths)
  local net, said = network.of(model.open(paths[1]), paths[1], args.net)
  local list = {}
  for k, path in ipairs(paths) do list[k] = model_of(net, path, args.quiet or k > 1) end
  return net, said, list
end

-- The data of --data; part: of a set that has both.
function measured.data(args, part)
  if not args.data then command.misused("--data is missing: what the loss is measured on, as --data fashion") end
  if args.examples and args.examples < 1 then command.misused("--examples is at least 1") end
  return network.data(args.data, { examples = args.examples or 10000, normalise = args.normalise, part = part })
end

-- What --bn says, for probes: data for "reset".
function measured.bn(args)
  local how = args.bn
  if how == nil or how == "keep" or how == "interpolate" then return how end
  if how ~= "reset" then command.misused("--bn %s: expected interpolate, keep or reset", how) end
  return measured.data(args, "train")
end

-- ---- matching ----

-- Whether a method has a use for a seed.
local methods = { weights = true, activations = false, mudsc = true, cca = false, ot = false, ste = true,
  sinkhorn = true }

function measured.method(args)
  local name = args.align
  if name and methods[name] == nil then
    local near = require "nearest"(name, methods)
    command.misused("--align %s is none of weights, activations, mudsc, cca, ot, ste, sinkhorn%s", name,
      near and ("; did you mean %s?"):format(near) or "")
  end
  return name
end

-- b, moved close to a by --align, as `tarn align` does it with the training images.
function measured.aligned(args, net, a, b)
  local name = measured.method(args)
  local set = measured.data(args, "train")
  if set.n and set.n > 2000 and set.take then set = set:take(2000) end
  local o = { data = set, seed = methods[name] and args.seed or nil }
  if name == "ot" then o.mode = "activations" end
  return align[name](net, a, b, o):apply(b)
end

-- ---- pictures and journals ----

-- Before the long work: a name that no picture can have.
function measured.check(args)
  if args.out and not args.out:find "%.svg$" and not args.out:find "%.png$" then
    command.misused("--out %s: pictures are .svg or .png", args.out)
  end
end

local function stem(path) return (path:gsub("%.%a+$", "")) end

-- Where points are kept as they come: journal(suffix) is a path, or nil where there is none. They lie where --journal
-- says, or beside the picture until it is drawn, so a run that was stopped goes on when the command is given again.
-- journal.done() removes those that nobody asked for.
function measured.journals(args)
  local base, used = args.journal or args.out and stem(args.out) .. ".journal", {}
  local self = {}
  function self.done()
    for _, path in ipairs(args.journal and {} or used) do require("search.journal").remove(path) end
  end
  return setmetatable(self, { __call = function(_, suffix)
    local path = base and (suffix and base .. "." .. suffix or base)
    local file = path and io.open(path)
    if file then
      file:close()
      if not args.quiet then io.stderr:write(("tarn: %s: going on from %s\n"):format(tarn.command, path)) end
    end
    used[#used + 1] = path
    return path
  end })
end

-- Draws the picture where -o says; fig: function() -> figure.
function measured.draw(args, fig)
  if args.out then fig():save(args.out) end
end

-- ---- results ----

-- "fashion-mnist test, 10000 examples"
function measured.data_text(set)
  local n = set.n or set.x.shape[1]
  return ("%s, %d example%s"):format(set.name or "tensors", n, n == 1 and "" or "s")
end

-- One object: said = { {name, value}, … }, and records = { {name, record}, … } with all their values.
function measured.json(args, said, records)
  local out = {}
  for _, pair in ipairs(said) do out[#out + 1] = { pair[1], pair[2] } end
  if args.out then out[#out + 1] = { "out", args.out } end
  local text = json.encode(json.object(out))
  for _, pair in ipairs(records) do
    text = ("%s,%s:%s}"):format(text:sub(1, -2), json.encode(pair[1]), record.json(pair[2]))
  end
  print(text)
end

-- The same for a reader.
function measured.say(args, said, records)
  if args.json then return measured.json(args, said, records) end
  if args.quiet then return end
  for _, pair in ipairs(said) do print(("%s: %s"):format(pair[1], pair[2])) end
  for _, pair in ipairs(records) do
    local text = tostring(pair[2])
    print(#records == 1 and text or ("%s: %s"):format(pair[1]:gsub("_", " "), text))
  end
  if args.out then print("picture: " .. args.out) end
end

return measured
