-- SPDX-License-Identifier: Apache-2.0
-- How good a network is: numbers of theta, all from one pass of the data through the network. Values are
-- summed in f64 over chunks of fixed size and order.
local told = require "nn.told"

return function(define_row, check, core)
  local function define(name, signature, text, example, f) define_row(name, signature, text, example, told(f)) end
  require "eval.metrics"(define, check, core)
  require "eval.norms"(define, check, core)
end
