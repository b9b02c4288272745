-- seconds: 0.05
-- ends: limit
local function nest(n)
  local co = coroutine.create(function()
    if n == 0 then while true do end end
    nest(n - 1)
  end)
  return coroutine.resume(co)
end
while true do nest(50) end
