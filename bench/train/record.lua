-- Recording arg[1] operations, which are pruned before anything is computed.
local x = tensor { 1 }
require "twin"(function()
  compile(function(v)
    local y = v
    for _ = 1, tonumber(arg[1]) do y = y * 0.5 end
    return v
  end)(x)
  return 1
end)
