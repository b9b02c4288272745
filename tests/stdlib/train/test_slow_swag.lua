-- SPDX-License-Identifier: Apache-2.0
-- The covariance of SWAG's draws, over a hundred thousand of them.
assert(loadfile "tests/stdlib/train/test_swag.lua")(100000)
