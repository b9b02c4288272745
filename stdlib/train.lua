-- SPDX-License-Identifier: Apache-2.0
-- Training: optimisers and schedules as values, and the loop. This file opens the module; core holds the
-- functions of stdlib/bind/train.c.
local told = require "nn.told"

return function(define_row, check, core)
  local function define(name, signature, text, example, f) define_row(name, signature, text, example, told(f)) end
  local schedule_of = require "train.schedule"(define, check, core)
  local optimiser_of = require "train.optimiser"(define, check, core)
  local fit = require "train.fit"(define, check, core, schedule_of, optimiser_of)
  require "train.averages"(define, check, core)
  require "train.swag"(define, check, core)
  local seeds_of = require "train.population"(define, check, core, fit)
  require "train.rounds"(define, check, core, seeds_of)
  require "train.ada_merging"(define, check, core)
  require "train.soup"(define, check, core)
  require "train.stitch"(define, check, core)
  require "train.distil"(define, check, core)
  require "train.btm"(define, check, core)
  require "train.tangent"(define, check, core)
  require "train.atlas"(define, check, core)
  require "train.surgery"(define, check, core)
  require "train.concrete"(define, check, core)
end
