-- trust: recipe
-- seconds: 0.05
-- ends: limit
local function loop() while true do pcall(loop, pcall) end end
local t = setmetatable({}, { __newindex = loop }); t.x = 1
