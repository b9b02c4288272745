-- trust: recipe
-- ends: ok
-- prints: 1 2 3.5 10 a ab b c
local t = { c = 1, b = 2, [10] = 3, a = 4, 5, 6, [3.5] = 7, ab = 8 }
local keys = {}
for k, v in pairs(t) do keys[#keys + 1] = tostring(k); assert(t[k] == v) end
print(table.concat(keys, ' '))
