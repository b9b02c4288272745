-- SPDX-License-Identifier: Apache-2.0
-- Searching where there is no gradient: grids and random points with a journal, one dimension by golden
-- section or Brent, many by CMA-ES.
local told = require "nn.told"

return function(define_row, checked, core)
  local function define(name, signature, text, example, f) define_row(name, signature, text, example, told(f)) end
  local check = require "expect"(core.kind).checker(checked, { tol = "a number", evals = "a number",
    seed = "a whole number", popsize = "a whole number", target = "a number", tolx = "a number", tolfun = "a number",
    journal = "the path of a file", weights = "a table" })
  require "search.points"(define, check, core)
  require "search.line"(define, check, core)
  require "search.cmaes"(define, check, core)
  require "search.soup"(define, check, core)
  require "search.sweep"(define, check, core)
  require "search.paint"(define, check, core)
  require "search.lorahub"(define, check, core)
  require "search.regmean"(define, check, core)
end
