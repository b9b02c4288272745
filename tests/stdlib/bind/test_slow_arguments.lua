-- SPDX-License-Identifier: Apache-2.0
-- Wrong arguments of every documented function (arguments.lua), many, other ones each day.
local arguments = require "arguments"
local seed = tonumber(os.getenv "TARN_TEST_FIRST") or 1
assert(arguments(seed, 300) > 100000)
