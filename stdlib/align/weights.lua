-- SPDX-License-Identifier: Apache-2.0
-- Matching by weights alone (Ainsworth, Hayase, Srinivasa 2022, arXiv:2209.04836): coordinate descent on Σ <A, pi(B)>
-- over all tensors. For one class with all others held the sum is linear in its map, so that an assignment solves
-- it. What is done here beyond the paper's loop:
--
-- A term of a score depends on the maps of the other axes of its tensor. It is kept, and where those have changed in
-- a few places only what these rows add is added (the sweeps after the first few change little). Heads and what is
-- inside them are one unit, solved by nested assignments (align.match). A class that stands in two axes of one tensor
-- makes the sum quadratic: the assignment for its slope at the map so far is taken where it is better, and else steps
-- of Frank and Wolfe between the two (Vogelstein et al. 2015, arXiv:1112.5507) look for a better one. So every step
-- is checked to gain, and the objective never falls.
return function(define, check, core)
  local layout_of = require "align.layout".of
  local map = require "align.map"(core)
  local matcher = require "align.matcher"(core)
  local options = { "seed", "restarts", "start", "sweeps", "signs", "data", "pin", "free", "groups", "check", "log",
    "dry" }

  local function weights(net, a, b, o)
    local what = "align.weights"
    check(what, o, options)
    o = o or {}
    local layout = layout_of(net, { pin = o.pin, free = o.free, x = map.example(what, net, o.data) })
    if o.start ~= nil and not map.is(o.start) then
      error(("%s: start is an alignment, got %s"):format(what, core.kind(o.start)), 0)
    end
    local job = matcher.job(what, net, layout, a, b, { moving = map.chosen(what, layout, o.groups), signs = o.signs })
    if o.dry then return matcher.estimate(job, o) end
    local best = matcher.run(job, { seed = o.seed, restarts = o.restarts, sweeps = o.sweeps, log = o.log,
      start = o.start and o.start.maps })
    return map.finish(map.new { net = net, layout = layout, maps = best.maps, method = "weights",
      info = { objective = best.objective, before = best.before, trace = best.trace, starts = best.starts } }, a, b, o)
  end

  define("align.weights", "align.weights(net, a, b, {seed = 0, restarts = 1, start =, sweeps = 100, signs = true, "
    .. "groups =, pin =, free =, data =, check = true, log =, dry = false}) -> alignment",
    "The symmetry of the network that brings the weights of b closest to those of a: p:apply(b) computes what b "
    .. "computes and lies near a. Needs no data. Weight matching (Ainsworth, Hayase, Srinivasa 2022, "
    .. "arXiv:2209.04836): one group after the other, in random order, is assigned anew with all others held, until a "
    .. "sweep gains nothing. Biases and norms take part, running statistics only move along. Heads are matched with "
    .. "what is inside them. Groups behind odd activations (kind \"signed\") may change signs; those behind relu are "
    .. "permuted, not scaled.\n"
    .. "  seed: of the order of groups and of the starts\n"
    .. "  restarts: how many starts; the first is the identity (or start), others are random, the best is kept\n"
    .. "  start: an alignment to begin from\n"
    .. "  sweeps: at most so many over all groups, for each start\n"
    .. "  signs: false: permutations only, as in the paper\n"
    .. "  groups: names or patterns of the groups that are matched (align.groups lists them); others keep their "
    .. "order\n"
    .. "  pin, free: as in align.groups\n"
    .. "  data: inputs for the check; without them it takes random ones\n"
    .. "  check: false returns the alignment without comparing the network before and after\n"
    .. "  log: a function of { start, sweep, objective, best, seconds } after each sweep; when it returns false the "
    .. "best so far is what is returned\n"
    .. "  dry: true returns what it would cost instead: { seconds, seconds_per_sweep, products, bytes }\n"
    .. "p.objective is the sum of inner products reached, p.before that of the identity, p.trace has the objective "
    .. "after each sweep of the best start, p.starts { objective, sweeps } of all.",
    "local net = nn.mlp { 4, 8, 8, 2 }\nlocal a = net:init { seed = 1 }\n"
    .. "local moved = align.weights(net, net:init { seed = 2 }, a):apply(a) -- the same function in another order\n"
    .. "local p = align.weights(net, a, moved)\nprint(p:check(net, moved) < 1e-4, p.objective >= p.before)\n"
    .. "-- > true\ttrue", weights)
end
