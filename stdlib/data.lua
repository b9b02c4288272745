-- SPDX-License-Identifier: Apache-2.0
-- The module data: data sets as values (stdlib/data/set.lua), and where they come from.
local told = require "nn.told"

return function(define_row, check, core)
  local function define(name, signature, text, example, f) define_row(name, signature, text, example, told(f)) end
  local sets = require "data.set"(define_row, check, core)
  require "data.files"(define, check, core, sets)
  require "data.made"(define, check, core, sets)
  require "data.shapes"(define, check, core, sets)
  require "data.clusters"(define, check, core)
  require "data.tfidf"(define, check, core)
end
