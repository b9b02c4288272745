-- ends: ok

-- between two closes as many C calls as Lua allows: the real stack must be watched, not only Lua's count
local co
for i = 1, 120 do
  local inner = co
  co = coroutine.create(function()
    local x <close> = setmetatable({}, { __close = function()
      local function deep(n)
        if n == 0 then
          if inner then coroutine.close(inner) end
          return 'x'
        end
        return (('x'):gsub('x', function() return deep(n - 1) end))
      end
      for n = 190, 100, -10 do
        if pcall(deep, n) then break end
      end
    end })
    coroutine.yield()
  end)
  coroutine.resume(co)
end
coroutine.close(co)
