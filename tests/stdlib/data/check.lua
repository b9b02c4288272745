-- SPDX-License-Identifier: Apache-2.0
-- `require` looks in a test's own folder: what the tests written in Lua share.
return dofile "tests/stdlib/bind/check.lua"
