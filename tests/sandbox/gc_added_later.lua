-- ends: ok
local m = {}
for i = 1, 100 do setmetatable({}, m) end
m.__gc = function() while true do end end
collectgarbage()
