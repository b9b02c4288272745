-- trust: recipe
-- ends: ok
-- prints: 1 2 3 0
local keys, none = {}, 0
for k in pairs { "a", "b", "c" } do keys[#keys + 1] = k end
for _ in pairs {} do none = none + 1 end
print(table.concat(keys, " ") .. " " .. none)
