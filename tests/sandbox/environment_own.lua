-- ends: ok
local env = { x = 3 }
assert(load('return x', 'c', 't', env)() == 3)
assert(load('return y', 'c', 't', env)() == nil)
