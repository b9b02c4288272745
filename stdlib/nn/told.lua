-- SPDX-License-Identifier: Apache-2.0
-- told(f): f, whose errors are told at the place of the script that called it, wherever in the library they
-- were found. What is no mistake of the script ("attempt to …") keeps its place in the library.
local text_of = require "nn.net".text_of

return function(inner) -- ??name at the prompt looks for that name
  return function(...)
    local results = table.pack(pcall(inner, ...))
    if results[1] then return table.unpack(results, 2, results.n) end
    local err = text_of(results[2])
    if type(err) ~= "string" then error(err, 0) end
    local text = err:gsub("^stdlib/[%w_/]+%.lua:%d+: ", "")
    local placed = text:find "^[^\n]-:%d+: " -- what C raises names the script's line already
    if not placed and text:find "^[%w_.:]+[%w_. ()]*: " then error(text, 2) end
    error(err, 0)
  end
end
