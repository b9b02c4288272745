-- trust: recipe
-- seconds: 0.05
-- ends: limit
local function loop() while true do pcall(loop, pcall) end end
return #setmetatable({}, { __len = loop })
