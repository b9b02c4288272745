-- SPDX-License-Identifier: Apache-2.0
-- instability [MODEL]: from which step on does the noise of training no longer decide where it ends?
--
-- This trains. One run begins at MODEL, or at a random network (--net with sizes, as mlp:784,128,10). At each step of
-- --at children leave it and go on to the end with the same data in other orders; then the line between each two of
-- them is measured. Printed is the instability: the greatest error between two children, less the mean of theirs;
-- below 0.02 counts as stable. What it will cost is said before it begins; --dry says it and ends.
--
-- NET and DATA are those of `tarn help barrier`. All of the training images are learned; measured is on 10000 of
-- them at most and, of fashion and digits, on the test images too.
--
-- Ctrl-C keeps what is measured in the journal (beside the picture where --journal names none), with the networks and
-- the state of the training beside it; the same command goes on from there.
--
-- Options:
--   --net NET         the network, where no config.json says it
--   --data DATA       what is learned
--   --normalise MEAN,STD   of images: x becomes (x - MEAN) / STD
--   --examples N      learn at most so many of the data (default: all)
--   --at LIST         steps that are shared, as 0,100,469 (default 0)
--   --unit UNIT       of --at: steps (default) or epochs, as 0,0.5,1
--   --children N      of each step (default 2)
--   --vary NAME…      what differs: order, augment, dropout (default: all); may be given several times
--   --fresh           children begin with a new state of the optimiser
--   --independent     runs from different initialisations too: the ceiling
--   --align METHOD    the lines after matching too: weights, activations, …
--   --epochs N        of the whole run (default 1)
--   --batch N         examples of a batch (default 128)
--   --optimiser NAME  adam (default), adamw or sgd
--   --momentum X      of sgd (default 0.9)
--   --lr X            the rate (default: the optimiser's own; sgd 0.05)
--   --schedule NAME   of the rate: constant (default), cosine, linear
--   --points N        of each line (default 30)
--   --seed N          of the run (default 0)
--   --dry             say what it would cost, and end
--   -o, --out FILE    the picture, .svg or .png; what it shows as .data.json beside it
--   --journal FILE    keep what is measured there
--   --json            one object, with a row for each pair of children

local command = require "command"
local measured = require "measured"
local network = require "network"
local watch = require "watch"
local args = command.parse()

measured.check(args)
local method = measured.method(args)
if not args.data then command.misused("--data is missing: what is learned, as --data fashion") end
if not args[1] and not args.net then command.misused("give MODEL, or --net with sizes, as --net mlp:784,128,10") end
for option, least in pairs { epochs = 1, batch = 1, children = 2, points = 2, examples = 1 } do
  if args[option] and args[option] < least then command.misused("--%s is at least %d", option, least) end
end
local schedules = { constant = true, cosine = true, linear = true }
if args.schedule and not schedules[args.schedule] then
  command.misused("--schedule %s: expected constant, cosine or linear", args.schedule)
end

local at = {}
for word in (args.at or "0"):gmatch "[^,]+" do
  at[#at + 1] = tonumber(word) or command.misused("--at %s: %s is not a number", args.at, word)
end

local optimisers = {
  adam = function(lr) return train.adam { lr = lr } end,
  adamw = function(lr) return train.adamw { lr = lr } end,
  sgd = function(lr) return train.sgd { lr = lr or 0.05, momentum = args.momentum or 0.9 } end,
}
local optimiser = optimisers[args.optimiser or "adam"]
if not optimiser then command.misused("--optimiser %s: expected adam, adamw or sgd", args.optimiser) end
for _, name in ipairs(args.vary or {}) do
  if not ({ order = true, augment = true, dropout = true })[name] then
    command.misused("--vary %s: expected order, augment or dropout", name)
  end
end
if args.unit and args.unit ~= "steps" and args.unit ~= "epochs" then
  command.misused("--unit %s: expected steps or epochs", args.unit)
end
if args.momentum and args.optimiser ~= "sgd" then command.misused("--momentum is of --optimiser sgd") end

-- Children of all steps, and the run that they leave, in steps; lines, in passes over examples.
local function cost_of(total, per_epoch, on)
  local children, steps, furthest = args.children or 2, 0, 0
  for _, k in ipairs(at) do
    local step = args.unit == "epochs" and math.floor(k * per_epoch + 0.5) or k
    if step < 0 or step > total then command.misused("--at: %g is not in the %d steps of the run", k, total) end
    steps, furthest = steps + children * (total - step), math.max(furthest, step)
  end
  local groups = #at + (args.independent and 1 or 0)
  if args.independent then steps = steps + children * total end
  local lines = groups * (children * (children - 1) // 2) * (method and 2 or 1)
  local examples = 0
  for _, set in pairs(on) do examples = examples + set.n end
  return steps + furthest, groups * children, lines, lines * (args.points or 30) * examples
end

-- Says what it takes, by the time of a few steps; a pass forward is taken for a third of a step.
local function announce(net, set, on, fit, start, total, per_epoch)
  local function seconds(steps)
    local o = { steps = steps, quiet = true, start = start, seed = args.seed }
    for key, v in pairs(fit) do o[key] = o[key] or v end
    o.epochs = nil
    local _, log = train.fit(net, set, o)
    return log[#log].seconds
  end
  local few = math.min(20, total)
  local step = math.max((seconds(few + 1) - seconds(1)) / few, 0)
  local steps, runs, lines, examples = cost_of(total, per_epoch, on)
  io.stderr:write(("tarn: instability: %d children, %d steps of training; %d line%s of %d points; about %s\n"):format(
    runs, steps, lines, lines == 1 and "" or "s", args.points or 30,
    watch.duration(steps * step + examples / (fit.batch or 128) * step / 3)))
end

measured.run(function()
  local start = args[1] and model.open(args[1]) or nil
  local net, said = network.of(start, args[1], args.net)
  if start then network.fits(net, start, args[1], args.quiet) end
  local set = network.data(args.data, { examples = args.examples, normalise = args.normalise })
  local on = { train = set.n > 10000 and set:take(10000) or set }
  if args.data:find "^%a+[_%a]*$" then
    local test = network.data(args.data, { examples = 10000, normalise = args.normalise, part = "test" })
    on.test = test
  end
  local fit = { epochs = args.epochs, batch = args.batch, optimiser = optimiser(args.lr), schedule = args.schedule }
  local per_epoch = (set.n + (args.batch or 128) - 1) // (args.batch or 128)
  local total = (args.epochs or 1) * per_epoch
  if not args.quiet or args.dry then announce(net, set, on, fit, start and start:load(), total, per_epoch) end
  if args.dry then return end

  local journal = measured.journals(args)
  local ways = method and { [method] = function(a, b) return measured.aligned(args, net, a, b) end } or nil
  local r = probe.instability(net, set, { at = at, unit = args.unit, children = args.children, vary = args.vary,
    seed = args.seed, start = start, fresh = args.fresh, on = on, points = args.points, ways = ways,
    independent = args.independent, train = fit, journal = journal() })
  journal.done()
  measured.draw(args, function() return r:plot() end)
  measured.say(args, { { "network", said }, { "data", measured.data_text(set) } }, { { "instability", r } })
end)
