-- SPDX-License-Identifier: Apache-2.0
-- spectrum MODEL: how the loss bends around a checkpoint: the density of all eigenvalues of its Hessian
--
-- By stochastic Lanczos quadrature: printed are the extreme eigenvalues, the trace with its standard error, the shares
-- of flat and of negative directions, and the eigenvalues that stand out. Each step is a product of the Hessian over
-- all data, of the cost of a few gradients. NET and DATA are those of `tarn help barrier`.
--
-- The picture has a logarithmic density and a stem for each eigenvalue that was found by itself. Near zero the density
-- is smoothed; count the stems, and leave their heights alone.
--
-- Ctrl-C keeps what is done in the journal (beside the picture where --journal names none); the same command goes on
-- from there, with the result of a run that was not stopped.
--
-- Options:
--   --net NET         the network, where no config.json says it
--   --data DATA       what the loss is measured on
--   --normalise MEAN,STD   of images: x becomes (x - MEAN) / STD
--   --examples N      at most so many of the data (default 10000)
--   --kind KIND       hessian (default), ggn (the Gauss-Newton matrix) or residual (the first less the second)
--   --only NAME       the block of these parameters: a name or a regular expression
--   --steps N         of the process (default 80)
--   --starts N        random vectors to start from (default 4)
--   --top N           find so many of the largest eigenvalues to 1e-4, too
--   --seed N          of the random vectors (default 0)
--   -o, --out FILE    the picture, .svg or .png; what it shows as .data.json beside it
--   --journal FILE    keep there what is done
--   --json            one object, with all nodes and weights

local measured = require "measured"
local args = require("command").parse()

measured.check(args)
measured.run(function()
  local net, said, models = measured.models(args, { args[1] })
  local set = measured.data(args)
  local H <close> = net:loss(set):linearize(models[1])
  local journal = measured.journals(args)
  local spectrum = probe.spectrum(H, { steps = args.steps, starts = args.starts, seed = args.seed, kind = args.kind,
    only = args.only, journal = journal() })
  local records = { { "spectrum", spectrum } }
  if args.top then
    records[2] = { "largest", probe.eigenvalues(H, { top = args.top, seed = args.seed, kind = args.kind,
      only = args.only, journal = journal("largest") }) }
  end
  journal.done()
  measured.draw(args, function() return spectrum:plot() end)
  measured.say(args, { { "network", said }, { "data", measured.data_text(set) } }, records)
end)
