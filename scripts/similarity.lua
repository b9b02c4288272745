-- SPDX-License-Identifier: Apache-2.0
-- similarity A [B]: how alike the layers of two networks are, and what they predict
--
-- For every layer of A and every layer of B one number: do both see the same examples as similar? With A alone its
-- layers are compared with each other. Where the data have labels, printed too is on how many examples the two
-- predict another class, and what chance would give. NET and DATA are those of `tarn help barrier`; B may be another
-- network (--net-b).
--
-- cka is 1 for the same up to rotation and scale, near 0 for unrelated. procrustes is a distance, from 0 to 2. cca,
-- svcca and pwcca need more examples than features. Read the picture along its diagonal.
--
-- Ctrl-C keeps the pairs of layers that are done in the journal (beside the picture where --journal names none); the
-- same command goes on from there.
--
-- Options:
--   --net NET         the network, where no config.json says it
--   --net-b NET       the network of B, where it is another one
--   --data DATA       examples that pass through both
--   --normalise MEAN,STD   of images: x becomes (x - MEAN) / STD
--   --examples N      at most so many of the data (default 2000)
--   --measure NAME    cka (default), cca, svcca, pwcca, procrustes, matched_correlation
--   --unbiased        of cka: the estimate that is near 0 for unrelated features
--   --rbf             of cka: with a Gaussian kernel in the place of the linear one
--   --layers NAME…    a layer of A (and of B, where it is the same network), by its path; may be given several times
--   --places HOW      of images and tokens: features (default), rows or mean
--   -o, --out FILE    the picture, .svg or .png; what it shows as .data.json beside it
--   --journal FILE    keep pairs of layers there as they come
--   --json            one object

local command = require "command"
local measured = require "measured"
local network = require "network"
local args = command.parse()

local names = { "cka", "cca", "svcca", "pwcca", "procrustes", "matched_correlation" }

measured.check(args)
local name, known = args.measure or "cka", {}
for _, measure in ipairs(names) do known[measure] = true end
if not known[name] then
  local near = require "nearest"(name, known)
  command.misused("--measure %s is none of %s%s", name, table.concat(names, ", "),
    near and ("; did you mean %s?"):format(near) or "")
end
if (args.unbiased or args.rbf) and name ~= "cka" then command.misused("--unbiased and --rbf are of --measure cka") end
if args.net_b and not args[2] then command.misused("--net-b is the network of B, which is missing") end
args.examples = args.examples or 2000

measured.run(function()
  local net, said, models = measured.models(args, { args[1], not args.net_b and args[2] or nil })
  local a, b, other, said_b = models[1], models[2] or models[1], net, nil
  if args.net_b then
    b = model.open(args[2])
    other, said_b = network.of(b, args[2], args.net_b, "--net-b")
    network.fits(other, b, args[2], args.quiet)
  end
  local set = measured.data(args)
  local o = { layers = args.layers, places = args.places, net_b = args.net_b and other or nil }
  if name == "cka" then o.unbiased, o.kernel = args.unbiased, args.rbf and "rbf" or nil end
  local journal = measured.journals(args)
  o.journal = journal()
  local layers = probe[name](net, a, b, set, o)
  journal.done()
  local records = { { "layers", layers } }
  if args[2] and set.y then
    records[2] = { "predictions", probe.agreement(net, a, b, set, { net_b = args.net_b and other or nil }) }
  end
  measured.draw(args, function() return layers:plot() end)
  local about = { { "network", said }, { "data", measured.data_text(set) } }
  if said_b then table.insert(about, 2, { "network of B", said_b }) end
  measured.say(args, about, records)
end)
