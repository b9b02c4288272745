-- SPDX-License-Identifier: Apache-2.0
-- align A B: move the network B onto A without changing what it computes
--
-- A and B are checkpoints of one network, trained apart. What may be permuted is read off the network, B is
-- moved so that it lies close to A, and the result is checked: the outputs before and after are compared.
-- Printed are the groups, with the share of their places that moved and the cosine between the weights
-- of A and of B, before and after. Nothing is written without -o or --save-map.
--
-- The network comes from the config.json of A, or from --net: a name alone, as mlp (which takes its sizes from
-- the tensors) or resnet; a name and what stands in its braces, as mlp:784,512,10,act="tanh"; or a Lua file that
-- returns a network. DATA is fashion or digits (their training images, x/255; fashion:test and digits:test are the
-- others), a .csv file with the label in its last column, IMAGES,LABELS in the format of MNIST, a .safetensors file
-- with the tensors x and, where labels are needed, y, or a Lua file that returns a data set.
--
-- Ctrl-C ends the command with code 130 and nothing written. With --keep-best a first Ctrl-C (or TERM, HUP, the end
-- of --time) only ends the matching, after the sweep or step that runs: the best so far is checked and written,
-- and the exit code still says that the command was stopped. A second Ctrl-C ends it at once.
--
-- Options:
--   --net NET         the network, where no config.json says it
--   -o, --out PATH    write B moved: a folder, or one file when PATH ends in .safetensors
--   --method NAME     weights (default), activations, mudsc, cca, ot, ste, sinkhorn; see `tarn help align.NAME`
--   --data DATA       inputs: needed by activations, mudsc, cca and ste, and what any result is checked on
--   --examples N      at most so many of the data (default 2000)
--   --restarts N      random starts of weights and mudsc, the best counts (default 1)
--   --seed N          seed of what is random (default 0)
--   --start MAP       begin from an alignment in a file of --save-map
--   --pin NAME…       a tensor or group that shall stay, by name or regular expression; may be given several times
--   --free NAME…      one that may move though it is an input or an output
--   --save-map FILE   write the alignment itself, a .safetensors file for align.load
--   --force           replace what -o or --save-map names
--   --keep-best       when stopped, write the best so far
--   --json            one object

local command = require "command"
local json = require "json"
local network = require "network"
local watch = require "watch"
local plainly = require("mergekit.run").plainly

local args = command.parse()

local function fail(text, ...) error(text:format(...), 0) end

-- ---- methods ----

-- What each takes beside pin and free; an option that a method has no use for is refused.
local methods = {
  weights = { "restarts", "seed", "start", "data", anytime = true },
  activations = { "data", "examples", needs = true },
  mudsc = { "restarts", "seed", "start", "data", "examples", needs = true, anytime = true },
  cca = { "data", "examples", needs = true },
  ot = { "data", "examples" },
  ste = { "seed", "start", "data", "examples", needs = true, anytime = true },
  sinkhorn = { "seed", "start", "data", anytime = true },
}

local name = args.method or "weights"
local method = methods[name]
if not method then
  local near = require "nearest"(name, methods)
  command.misused("--method %s is none of weights, activations, mudsc, cca, ot, ste, sinkhorn%s", name,
    near and ("; did you mean %s?"):format(near) or "")
end
local takes = {}
for _, option in ipairs(method) do takes[option] = true end
for _, option in ipairs { "restarts", "seed", "start", "examples" } do
  if args[option] and not takes[option] and not (option == "examples" and args.data) then
    command.misused("--method %s has no use for --%s", name, option)
  end
end
if method.needs and not args.data then command.misused("--method %s needs --data", name) end
if args.keep_best and not method.anytime then
  command.misused("--keep-best: --method %s has no best so far, it is done in one pass", name)
end
for _, option in ipairs { "restarts", "examples" } do
  if args[option] and args[option] < 1 then command.misused("--%s is at least 1", option) end
end

-- ---- the matching ----

local stopped = false

local function progress()
  local line = watch.line()
  return function(r)
    local words = {}
    if r.start and (args.restarts or 1) > 1 then words[1] = ("start %d of %d"):format(r.start, args.restarts) end
    for _, key in ipairs { "sweep", "step" } do
      if r[key] then words[#words + 1] = ("%s %d"):format(key, r[key]) end
    end
    for _, key in ipairs { "objective", "loss", "best" } do
      if r[key] then words[#words + 1] = ("%s %.6g"):format(key, r[key]) end
    end
    if r.seconds then words[#words + 1] = watch.duration(r.seconds) end
    line(table.concat(words, "  "))
    stopped = args.keep_best and watch.stopping() or false
    return not stopped
  end
end

-- Long matchings say how long they may take.
local function announce(net, a, b, o)
  local elements = 0
  for _, p in ipairs(net:params()) do
    local n = 1
    for _, size in ipairs(p.shape) do n = n * size end
    elements = elements + n
  end
  if name ~= "weights" or args.quiet or elements < 5e6 then return end
  local dry = { dry = true }
  for key, v in pairs(o) do dry[key] = v end
  local cost = align.weights(net, a, b, dry)
  if cost.seconds > 10 then
    io.stderr:write(("tarn: align: about %s, %s a sweep\n"):format(watch.duration(cost.seconds),
      watch.duration(cost.seconds_per_sweep)))
  end
end

local function matched(net, a, b)
  local o = { pin = args.pin, free = args.free }
  if args.data then o.data = network.data(args.data, { examples = args.examples or 2000 }) end
  if name == "ot" and o.data then o.mode = "activations" end
  for _, option in ipairs { "restarts", "seed" } do o[option] = args[option] end
  if args.start then o.start = align.load(args.start) end
  announce(net, a, b, o)
  if method.anytime then o.log = progress() end
  return align[name](net, a, b, o)
end

-- ---- what is said ----

local function print_json(p, said)
  local groups = {}
  for i, g in ipairs(p:agreement()) do
    local row = { { "group", g.group }, { "size", g.size }, { "kind", g.kind }, { "instances", g.instances } }
    for _, key in ipairs { "moved", "before", "after" } do
      if g[key] then row[#row + 1] = { key, g[key] } end
    end
    groups[i] = json.object(row)
  end
  local out = { { "method", name }, { "net", said }, { "exact", p.exact }, { "change", p.change } }
  for _, key in ipairs { "before", "objective" } do
    if p[key] then out[#out + 1] = { key, p[key] } end
  end
  out[#out + 1] = { "groups", json.list(groups) }
  out[#out + 1] = { "stopped", stopped }
  if args.out then out[#out + 1] = { "out", args.out } end
  if args.save_map then out[#out + 1] = { "map", args.save_map } end
  print(json.encode(json.object(out)))
end

local function print_text(p, said)
  print("network: " .. said)
  print(p)
  if p.starts and #p.starts > 1 then
    local best = 1
    for k, s in ipairs(p.starts) do
      if s.objective > p.starts[best].objective then best = k end
    end
    print(("best of %d starts: %d"):format(#p.starts, best))
  end
  if not p.exact then print "the maps are soft: B moved computes something else than B" end
  if stopped then print "stopped: this is the best so far" end
end

-- ---- the command ----

if args.save_map and not args.save_map:find "%.safetensors$" then
  command.misused("--save-map %s: expected the name of a .safetensors file", args.save_map)
end

-- Before the long work: saving would refuse what is there.
local function free(path, option)
  if not path or args.force then return end
  local is_model = pcall(model.open, path)
  local file = path:find "%.safetensors$" and io.open(path, "rb")
  if file then file:close() end
  if is_model or file then fail("%s %s: that is there already; --force replaces it", option, path) end
end

plainly(function()
  local a, b = model.open(args[1]), model.open(args[2])
  free(args.out, "--out")
  free(args.save_map, "--save-map")
  local net, said = network.of(a, args[1], args.net)
  network.fits(net, a, args[1], args.quiet)
  network.fits(net, b, args[2], args.quiet)
  local _ = align.groups -- opens the module, and with it watch
  local _running <close> = watch.run(args.keep_best)
  local p = matched(net, a, b)
  if args.out then p:apply(b):save(args.out, { overwrite = args.force }) end
  if args.save_map then p:save(args.save_map, { overwrite = args.force }) end
  if args.json then print_json(p, said) elseif not args.quiet then print_text(p, said) end
end)
