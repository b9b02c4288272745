-- trust: recipe
-- seconds: 0.05
-- ends: limit
local looping = setmetatable({}, { __close = function() while true do end end })
while true do
  pcall(function() local x <close> = looping; error "x" end)
end
