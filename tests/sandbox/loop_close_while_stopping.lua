-- trust: recipe
-- seconds: 0.05
-- ends: limit
local looping = setmetatable({}, { __close = function() while true do end end })
local a <close> = looping
local b <close> = looping
while true do end
