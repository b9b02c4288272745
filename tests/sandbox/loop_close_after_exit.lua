-- within: 0.5
-- trust: script
-- ends: exit 3
local x <close> = setmetatable({}, { __close = function() while true do end end })
os.exit(3)
