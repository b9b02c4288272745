-- ends: ok
assert(getmetatable('') == false and getmetatable(1) == false)
assert(not pcall(setmetatable, 'x', {}))
local rep = string.rep
string.rep = function() return 'poisoned' end          -- its own library table, in its own state
assert(('x'):rep(2) == 'poisoned')
string.rep = rep
assert(('x'):rep(2) == 'xx')
