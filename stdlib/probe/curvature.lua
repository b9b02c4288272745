-- SPDX-License-Identifier: Apache-2.0
-- Curvature and sharpness: what probes of second derivatives share is opened once, then each family.
return function(define, check, core)
  local told = require "nn.told"
  local whole = require "probe.eigen"(define, check, core, told)
  require "probe.trace"(define, check, core, told, whole)
  require "probe.spectrum"(define, check, core, told, whole)
  require "probe.sharpness"(define, check, core, told, whole)
  require "probe.kernel"(define, check, core, told, whole)
  require "probe.gradients"(define, check, core, told, whole)
  require "probe.edge"(define, check, core, told, whole)
end
