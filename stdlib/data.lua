-- SPDX-License-Identifier: Apache-2.0
-- The module data: data sets as values (stdlib/data/set.lua), and where they come from.

return function(define, check, core)
  local sets = require "data.set"(define, check, core)
  require "data.files"(define, check, core, sets)
  require "data.made"(define, check, core, sets)
  require "data.shapes"(define, check, core, sets)
  require "data.clusters"(define, check)
  require "data.tfidf"(define, check)
end
