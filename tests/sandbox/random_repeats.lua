-- ends: ok
-- prints: 1
math.randomseed(7)
local a = math.random(1000000)
math.randomseed(7)
print(math.random(1000000) == a and 1 or 0)
assert(not pcall(math.randomseed))
