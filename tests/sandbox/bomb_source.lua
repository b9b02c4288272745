-- trust: recipe
-- memory: 64
-- ends: memory
local n = 0
assert(load(function() n = n + 1; return ('x'):rep(1 << 20) end))
