-- trust: recipe
-- seconds: 0.05
-- ends: limit
local function loop() while true do pcall(loop, pcall) end end
table.sort({ 3, 2, 1 }, loop)
