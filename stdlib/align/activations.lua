-- SPDX-License-Identifier: Apache-2.0
-- Matching by what features do on data (Li et al. 2015, arXiv:1511.07543; Ainsworth et al. 2022, arXiv:2209.04836): for
-- each class the assignment of the features of b to those of a that are most alike over the data. Layers do not depend
-- on each other, so one pass through both networks is all there is.
return function(define, check, core)
  local map = require "align.map"(core)
  local features = require "align.features"(core)
  local scores = require "align.scores"(core)
  local options = { "data", "measure", "site", "from", "batch", "examples", "eps", "signs", "pin", "free", "check",
    "log" }

  local function activations(net, a, b, o)
    local what = "align.activations"
    o = o or {}
    check(what, o, options)
    local measure = scores.measure_of(what, o)
    local plan = features.layout(what, net, a, o)
    local moments, left = scores.seen(what, net, plan, a, b, o)
    local flips = o.signs ~= false and o.measure ~= "absolute"
    local maps = scores.solve(plan, scores.terms(moments, measure), flips, o.log)
    return map.finish(map.new { net = net, layout = plan, maps = maps, method = "activations",
      info = { matched = scores.matched(moments, maps, measure), left = left } }, a, b, o)
  end

  define("align.activations", "align.activations(net, a, b, {data =, measure = \"correlation\", site = \"post\", "
    .. "from = \"all\", batch =, examples =, eps = 1e-4, signs = true, pin =, free =, check = true, "
    .. "log =}) -> alignment",
    "The symmetry of the network that makes the features of b most like those of a on data (Li et al. 2015, "
    .. "arXiv:1511.07543; Ainsworth et al. 2022, arXiv:2209.04836): p:apply(b) computes what b computes and is "
    .. "close to a. One pass through both networks, then one assignment for each group; heads and what is inside "
    .. "them are solved together (Verma, Elbayad 2024, arXiv:2403.00986). Every token and every place of an image "
    .. "is a sample, padding too; labels are not used. p.matched says for each part that was looked at how alike "
    .. "matched features are (before, after), p.left which groups are seen nowhere.\n"
    .. "  measure: \"correlation\" (with eps added to the standard deviations), \"absolute\" (its magnitude), "
    .. "\"covariance\", \"product\" (E[a b], as in Git Re-Basin's code)\n"
    .. "  site: \"post\": what the next matrix reads, before poolings; \"pre\": what the producing part puts out, "
    .. "behind a norm that follows at once. Groups that are not seen there are taken where they are seen\n"
    .. "  from: of a group that is seen in several places (a residual stream): \"all\" (their mean), \"first\", "
    .. "\"last\", or function(part) -> bool\n"
    .. "  signs: where a group allows signs, features that are opposed are matched too, and turned\n"
    .. "  batch: left out, as many examples as keep what is seen of them in the cache. It does not matter but for "
    .. "rounding: products are made in the dtype of the network, sums of more than 4096 samples in f64\n"
    .. "  examples: at most so many of the data. pin, free: as in align.groups",
    "local net = nn.mlp { 4, 16, 2 }\nlocal a, b = net:init { seed = 1 }, net:init { seed = 2 }\n"
    .. "local p = align.activations(net, a, b, { data = { x = tensor.normal({ 100, 4 }, 3) } })\n"
    .. "print(p:check(net, b) < 1e-5, p.matched[1].before < p.matched[1].after)\n-- > true\ttrue", activations)
end
