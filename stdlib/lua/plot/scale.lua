-- SPDX-License-Identifier: Apache-2.0
-- Axes: where values go on a line from 0 to 1, and the round numbers that are written beside it. Labels of one axis are
-- all of one form: decimals with as many places, or decimals times one power of ten ("0.5e-6"). Where values differ
-- only behind six digits, labels are distances from a round number, which the axis then says (`from`).

local scale = {}

local function log10(v) return math.log(v, 10) end

-- 1, 2, 2.5 or 5 times a power of ten: the step that gives about `count` ticks over `span`; whole: a whole number.
local function round_step(span, count, whole)
  local raw = whole and math.max(span / count, 1) or span / count
  local power = 10.0 ^ math.floor(log10(raw))
  for _, k in ipairs { 1, 2, 2.5, 5 } do
    if k * power >= raw * 0.999 and not (whole and k * power == 2.5) then return k * power end
  end
  return 10 * power
end

-- A round step that gives about `count` steps over `span`.
scale.step = round_step

-- How many decimals numbers `step` apart have.
local function places_of(step)
  local digits = math.max(0, -math.floor(log10(step) + 1e-9))
  local scaled = step * 10.0 ^ digits
  return math.abs(scaled - math.floor(scaled + 0.5)) > 1e-6 and digits + 1 or digits -- 2.5
end

-- Writes numbers up to `most` in size, `step` apart.
local function writer(most, step)
  local power = 0
  if most < 1e-3 or most >= 1e6 and step >= 1e-3 * most then power = math.floor(log10(most) + 1e-9) end
  local form = ("%%.%df%s"):format(places_of(step / 10.0 ^ power), power ~= 0 and "e" .. power or "")
  return function(v)
    if math.abs(v) < step * 1e-6 then v = 0.0 end -- no -0
    return v == 0 and power ~= 0 and "0" or form:format(v / 10.0 ^ power)
  end
end

-- The number that labels are counted from: 0 but where more than seven digits would be needed.
local function origin_of(low, high, step)
  if math.max(math.abs(low), math.abs(high)) < 1e6 * step then return 0.0 end
  local power = math.ceil(log10(high - low)) -- dividing, where it is negative: powers below 1 are not exact
  local function times(v, k) return k < 0 and v / 10.0 ^ -k or v * 10.0 ^ k end
  return times(math.floor(times((low + high) / 2, -power) + 0.5), power)
end

-- The ends, where their distance has no digits left to be divided.
local function end_ticks(low, high)
  return { { value = low, label = ("%.1e"):format(low) }, { value = high, label = ("%.1e"):format(high) } }
end

local function linear_ticks(low, high, count, whole)
  if high - low < 1e-300 then return end_ticks(low, high) end
  local step = round_step(high - low, count, whole)
  local from = origin_of(low, high, step)
  local slack = math.max(1e-9, 4e-16 * math.max(math.abs(low), math.abs(high)) / step)
  local first, last = math.ceil((low - from) / step - slack), math.floor((high - from) / step + slack)
  local write = writer(math.max(math.abs(first), math.abs(last), 1) * step, step)
  local out = {}
  for k = first, last do out[#out + 1] = { value = from + k * step, label = write(k * step) } end
  return out, from ~= 0 and from or nil
end

-- Powers of ten, with 2 and 5 between them where there are few; unlabelled ones between.
local function log_ticks(low, high, count)
  local first, last = math.ceil(log10(low) - 1e-9), math.floor(log10(high) + 1e-9)
  local out, minor, plain = {}, {}, true
  local function add(list, k, factor)
    local v = factor * 10.0 ^ k
    if v >= low * (1 - 1e-9) and v <= high * (1 + 1e-9) and v > 0 and v < math.huge then
      list[#list + 1] = { value = v, k = k, factor = factor }
      plain = plain and (list == minor or k >= -3 and k <= 5)
    end
  end
  local every = math.max(1, math.ceil((last - first + 1) / (count + 1)))
  local labelled = every == 1 and last - first < 2 and { [1] = true, [2] = true, [5] = true } or { [1] = true }
  for k = first - 1, last do
    for factor = 1, every == 1 and 9 or 1 do
      add(labelled[factor] and (k - first) % every == 0 and out or minor, k, factor)
    end
  end
  if #out < 2 then return linear_ticks(low, high, count) end
  for _, t in ipairs(out) do
    t.label = plain and ("%." .. math.max(0, -t.k) .. "f"):format(t.value) or ("%de%d"):format(t.factor, t.k)
  end
  return out, nil, minor
end

-- make(low, high, log, count) -> {at = function(v) -> 0…1, ticks = {{value, label}, …}, minor = ticks without labels,
-- from = number that labels are counted from, or nil}; low < high. whole: ticks at whole numbers only.
function scale.make(low, high, log, count, whole)
  local f = log and function(v) return math.log(v) end or function(v) return v end
  local start, span = f(low), f(high) - f(low)
  local ticks, from, minor = (log and log_ticks or linear_ticks)(low, high, count, whole)
  return { at = function(v) return (f(v) - start) / span end, ticks = ticks, minor = minor or {}, from = from }
end

-- What an axis is called, with the number that its labels are counted from.
function scale.named(label, s, default)
  if not s.from then return label end
  return ("%s %s %s"):format(label or default, s.from < 0 and "+" or "-", ("%.15g"):format(math.abs(s.from)))
end

-- Whether v can stand on an axis: no NaN, and not so large that a span of such numbers overflows.
function scale.shown(v, log)
  return v == v and v < 1e300 and v > (log and 0 or -1e300)
end

-- The range that shows low … high with a little room at the ends; zero is included when it is near.
function scale.range(low, high, log)
  if log then
    local room = low == high and 2 or high ^ 0.03 / low ^ 0.03 -- high / low may overflow
    return math.max(low / room, 1e-323), math.min(high * room, 1e308)
  end
  local size = math.max(math.abs(low), math.abs(high))
  if high - low <= math.max(1e-14 * size, 1e-300) then -- equal but for rounding
    local room = size <= 1e-290 and 1 or math.abs(low) * 0.1
    return low - room, high + room
  end
  local span = high - low
  local bottom, top = low - 0.04 * span, high + 0.04 * span
  if low >= 0 and low < 0.2 * span then bottom = low == 0 and bottom or math.min(0, bottom) end
  return bottom, top
end

return scale
