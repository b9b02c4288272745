-- SPDX-License-Identifier: Apache-2.0
-- Alignment: the symmetries of networks, derived from their operations, and ways to move one trained network onto
-- another without changing what it computes. This file opens the module; core holds the functions of
-- stdlib/bind/train.c and stdlib/bind/align.c.
local told = require "nn.told"

return function(define_row, checked, core)
  local function define(name, signature, text, example, f) define_row(name, signature, text, example, told(f)) end
  local check = require "expect"(core.kind).checker(checked, { log = "a function", seed = "a whole number",
    eps = "a number", noise = "a number", energy = "a function", temperature = "a list of numbers",
    through = "a text" })
  require "align.layout".open(core)
  require "watch".open(core)
  require "align.groups"(define, check, core)
  require "align.assign"(define, check, core)
  require "align.alignment"(define, check, core)
  require "align.weights"(define, check, core)
  require "align.anneal"(define, check, core)
  require "align.many"(define, check, core)
  require "align.zip"(define, check, core)
  require "align.ot"(define, check, core)
  require "align.pleas"(define, check, core)
  require "align.repair"(define, check, core)
  require "align.activations"(define, check, core)
  require "align.cca"(define, check, core)
  require "align.mudsc"(define, check, core)
  require "align.ste"(define, check, core)
  require "align.sinkhorn"(define, check, core)
end
