-- SPDX-License-Identifier: Apache-2.0
-- plane MODEL [OTHER…]: the loss over a plane of parameter space, as a picture
--
-- One checkpoint: the plane through it along two random directions that are scaled like its weights (filter
-- normalisation), or along the two sharpest directions (--hessian). Three: the plane through all of them. Three or
-- more with --pca: the two principal components of a trajectory, the last checkpoint being its end.
--
-- NET and DATA are those of `tarn help barrier`. A picture says nothing of the millions of other directions; what is
-- drawn under a model that lies off the plane is not its loss, and the list of models says how far off it lies.
--
-- Ctrl-C keeps the cells that are done in the journal (beside the picture where --journal names none); the same
-- command goes on from there.
--
-- Options:
--   --net NET         the network, where no config.json says it
--   --data DATA       what the loss is measured on
--   --normalise MEAN,STD   of images: x becomes (x - MEAN) / STD
--   --examples N      at most so many of the data (default 10000)
--   --points N        cells on each axis (default 21)
--   --extent X        random directions and --hessian: from -X to X (default 1)
--   --norm HOW        of random directions: filter (default), layer, weight, dfilter, dlayer, none
--   --seed N          of random directions and of --align (default 0)
--   --hessian         along the eigenvectors of the two largest eigenvalues of the Hessian
--   --pca             the checkpoints are a trajectory
--   --align METHOD    move the other checkpoints close to the first: weights, activations, …
--   --bn HOW          running statistics of batch norms: interpolate (default), keep or reset, as in barrier
--   --field NAME      what the picture shows: loss (default) or error
--   -o, --out FILE    the picture, .svg or .png; what it shows as .data.json beside it
--   --journal FILE    keep cells there as they come
--   --json            one object, with all cells

local command = require "command"
local measured = require "measured"
local args = command.parse()

measured.check(args)
local count, method = #args, measured.method(args)
if count == 2 then command.misused("two models make a line: see `tarn help barrier`; a plane takes one or three") end
if count > 3 and not args.pca then command.misused("%d models: a plane goes through three; --pca takes more", count) end
if args.pca and count < 3 then command.misused("--pca takes a trajectory of at least three checkpoints") end
if method and (count == 1 or args.pca) then command.misused("--align is for planes through three networks") end
if args.hessian and count > 1 then command.misused("--hessian is for one checkpoint") end
for _, option in ipairs { "extent", "norm" } do
  if args[option] and count > 1 then command.misused("--%s is for one checkpoint", option) end
end
if args.norm and args.hessian then command.misused("--norm is for random directions, --hessian has its own") end
local extent = args.extent or 1
if extent <= 0 then command.misused("--extent is above 0") end
if args.field and args.field ~= "loss" and args.field ~= "error" then
  command.misused("--field %s: expected loss or error", args.field)
end

measured.run(function()
  local net, said, models = measured.models(args, { table.unpack(args) })
  local set = measured.data(args)
  local f = net:loss(set)
  local o = { points = args.points, bn = measured.bn(args), pca = args.pca }
  local journal = measured.journals(args)
  if count == 1 then
    o.xlim, o.ylim, o.seed, o.norm = { -extent, extent }, { -extent, extent }, args.seed, args.norm
    if args.hessian then
      local H <close> = f:linearize(models[1])
      o.directions = probe.eigenvalues(H, { top = 2, vectors = true, seed = args.seed,
        journal = journal("directions") }).vectors
      o.seed = nil
    end
  else
    for k = 2, method and count or 0 do models[k] = measured.aligned(args, net, models[1], models[k]) end
  end
  o.journal = journal()
  local plane = probe.plane(f, count == 1 and models[1] or models, o)
  journal.done()
  measured.draw(args, function() return plane:plot { field = args.field } end)
  local about = { { "network", said }, { "data", measured.data_text(set) } }
  if plane.through == "through" then
    for k, name in ipairs { "a", "b", "c" } do about[#about + 1] = { name, args[k] } end
  end
  measured.say(args, about, { { "plane", plane } })
end)
