-- SPDX-License-Identifier: Apache-2.0
-- Looking at networks: what data say about weights. Statistics are models (or tables, as theta is), so that methods
-- take them as they are: merge.fisher { a, b, fisher = { probe.fisher(…), probe.fisher(…) } }.
return function(define, check, core)
  require "probe.fisher"(define, check, core)
  require "probe.moments"(define, check, core)
end
