-- SPDX-License-Identifier: Apache-2.0
-- Axes: where values go on a line from 0 to 1, and the round numbers that are written beside it.

local scale = {}

-- 1, 2, 2.5 or 5 times a power of ten: the step that gives about `count` ticks over `span`.
local function round_step(span, count)
  local raw = span / count
  local power = 10.0 ^ math.floor(math.log(raw, 10))
  for _, k in ipairs { 1, 2, 2.5, 5 } do
    if k * power >= raw * 0.999 then return k * power end
  end
  return 10 * power
end

-- The shortest form of v among those of numbers `step` apart.
local function label(v, step)
  if math.abs(v) < step * 1e-6 then v = 0 end
  local size = math.max(math.abs(v), step)
  if size >= 1e6 or size < 1e-4 then
    return (string.format("%.6g", v):gsub("e([+-])0*(%d)", "e%1%2"):gsub("e%+", "e"))
  end
  local digits = math.max(0, -math.floor(math.log(step, 10) + 1e-9))
  if digits < 8 and math.abs(step * 10 ^ digits - math.floor(step * 10 ^ digits + 0.5)) > 1e-6 then
    digits = digits + 1 -- 2.5
  end
  return string.format("%." .. digits .. "f", v)
end

local function linear_ticks(low, high, count)
  local step = round_step(high - low, count)
  local out = {}
  for k = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) do
    out[#out + 1] = { value = k * step, label = label(k * step, step) }
  end
  return out
end

local function log_ticks(low, high, count)
  local first, last = math.ceil(math.log(low, 10) - 1e-9), math.floor(math.log(high, 10) + 1e-9)
  local out = {}
  local function add(k, factor)
    local v = factor * 10.0 ^ k
    if v >= low * (1 - 1e-9) and v <= high * (1 + 1e-9) then
      out[#out + 1] = { value = v, label = (k < -3 or k > 5) and string.format("%de%d", factor, k)
        or string.format("%." .. math.max(0, -k) .. "f", v) }
    end
  end
  local every = math.max(1, math.ceil((last - first + 1) / (count + 1)))
  for k = first - 1, last do
    if every > 1 then
      if (k - first) % every == 0 then add(k, 1) end
    else
      for _, factor in ipairs(last - first < 2 and { 1, 2, 5 } or { 1 }) do add(k, factor) end
    end
  end
  return #out >= 2 and out or linear_ticks(low, high, count)
end

-- make(low, high, log, count) -> {at = function(v) -> 0…1, ticks = {{value, label}, …}}; low < high.
function scale.make(low, high, log, count)
  local f = log and function(v) return math.log(v) end or function(v) return v end
  local from, span = f(low), f(high) - f(low)
  return {
    at = function(v) return (f(v) - from) / span end,
    ticks = log and log_ticks(low, high, count) or linear_ticks(low, high, count),
  }
end

-- The range that shows low … high with a little room at the ends; zero is included when it is near.
function scale.range(low, high, log)
  if log then
    local room = low == high and 2 or (high / low) ^ 0.03
    return low / room, high * room
  end
  if low == high then
    local room = low == 0 and 1 or math.abs(low) * 0.1
    return low - room, high + room
  end
  local span = high - low
  local bottom, top = low - 0.04 * span, high + 0.04 * span
  if low >= 0 and low < 0.2 * span then bottom = low == 0 and bottom or math.min(0, bottom) end
  return bottom, top
end

return scale
