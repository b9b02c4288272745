-- ends: ok
-- prints: 3	false
-- A table without string keys is walked as it is, to its end.
local n, again = 0, false
for _ in pairs({}) do again = true end
for _ in pairs({ 10, 20, 30 }) do n = n + 1 end
print(n, again)
