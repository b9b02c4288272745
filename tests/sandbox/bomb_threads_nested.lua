-- memory: 32
-- ends: ok
local function f() coroutine.wrap(f)() end
local ok, e = pcall(f)
assert(not ok and e:find 'C stack overflow')
