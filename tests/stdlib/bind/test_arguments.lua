-- SPDX-License-Identifier: Apache-2.0
-- Wrong arguments of every documented function (arguments.lua), the same ones each time.
local arguments = require "arguments"
assert(arguments(1, 12) > 5000)
