-- SPDX-License-Identifier: Apache-2.0
-- The progress line of a long probe: drawn from the first second on, at most ten times a second, wiped at the end.
return function(core)
  -- local draw <close> = progress("probe.trace", 100, "products"); draw(17); draw.said() -> "17 of 100 products".
  -- draw.changed, where it is set, is called each time.
  return function(what, total, unit)
    local due, shown, now_done = core.now() + 1, false, 0
    local self = {}
    function self.said()
      return total and ("%d of %d %s"):format(now_done, total, unit) or ("%d %s"):format(now_done, unit)
    end
    local function draw(_, done)
      now_done = done
      if self.changed then self.changed() end
      local now = core.now()
      if now < due then return end
      shown = true
      local text = total and ("%s  %d/%d %s"):format(what, done, total, unit) or ("%s  %d %s"):format(what, done, unit)
      due = core.line(text) and now + 0.1 or math.huge
    end
    return setmetatable(self, { __call = draw, __close = function() if shown then core.line() end end })
  end
end
