-- SPDX-License-Identifier: Apache-2.0
-- Looking at networks: what data say about weights. Statistics are models (or tables, as theta is), so that methods
-- take them as they are: merge.fisher { a, b, fisher = { probe.fisher(…), probe.fisher(…) } }.
return function(define, checked, core)
  local check = require "expect"(core.kind).checker(checked, { seed = "a whole number", tolerance = "a number",
    threshold = "a number", rise = "a number", first = "a number", factor = "a number", beta = "a number",
    mu = "a number", weight_decay = "a number", gauss = "a number", matching = "a number", batch = "a number",
    control = "a whole number", seeds = "a whole number from 1", align = "a function",
    log = "a function or the path of a file", rescale = "a number or a list of numbers", alphas = "a list of numbers" })
  require "probe.fisher"(define, check, core)
  require "probe.moments"(define, check, core)
  require "probe.path"(define, check, core)
  require "probe.plane"(define, check, core)
  require "probe.topology"(define, check, core)
  require "probe.region"(define, check, core)
  require "probe.barriers"(define, check, core)
  require "probe.exchange"(define, check, core)
  require "probe.similarity"(define, check, core)
  require "probe.linear_probe"(define, check, core)
  require "probe.agreement"(define, check, core)
  require "probe.linearity"(define, check, core)
  require "probe.disentanglement"(define, check, core)
  require "probe.task_vectors"(define, check, core)
  require "probe.trajectory"(define, check, core)
  require "probe.instability"(define, check, core)
  require "probe.tickets"(define, check, core)
  require "probe.intrinsic"(define, check, core)
  require "probe.curvature"(define, check, core)
  require "probe.curve"(define, check, core)
  require "probe.neb"(define, check, core)
  require "probe.simplex"(define, check, core)
  require "probe.star"(define, check, core)
  require "probe.geodesic"(define, check, core)
  require "probe.mc_sgd"(define, check, core)
  require "probe.dropout"(define, check, core)
end
