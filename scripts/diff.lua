-- SPDX-License-Identifier: Apache-2.0
-- diff A B: what differs between two checkpoints, tensor by tensor
--
-- Exit code 0: the same, 1: different, 2: could not tell. An element counts as equal when both are NaN,
-- when the values are equal, or when |a - b| <= atol + rtol |b| with b finite. Relative: the norm of the
-- difference over the norm of B.
--
-- Options:
--   --rtol X          relative tolerance (default 0)
--   --atol X          absolute tolerance (default 0)
--   --any-dtype       tensors of different dtypes may be equal
--   --all             list equal tensors too
--   --json            one object a tensor, then one for the whole
local json, show = require "json", require "show"
tarn.exit_on_error(2)
local args = require("command").parse()
local rtol, atol = args.rtol or 0, args.atol or 0
if not (rtol >= 0 and atol >= 0) then
  require("command").misused("a tolerance is no less than 0")
end
local a, b = model.open(args[1]), model.open(args[2])

local function shape_of(info)
  return string.format("%s[%s]", info.dtype, table.concat(info.shape, ", "))
end

local function same_shape(p, q)
  return table.concat(p.shape, ",") == table.concat(q.shape, ",")
end

-- {wrong = elements outside the tolerance, max = largest |a - b|, relative, cosine}
local function compare(name)
  local x, y = a:tensor(name), b:tensor(name)
  if x:numel() == 0 then
    return { wrong = 0, max = 0, relative = 0, cosine = 1 }
  end
  local same = x:eq(y) -- before f64 rounds the last digits of an i64 away
  x, y = x:to "f64", y:to "f64"
  same = same:logical_or(x:ne(x):logical_and(y:ne(y)))
  local d = x - y
  local close = same
  if rtol > 0 or atol > 0 then
    close = same:logical_or(d:abs():le(atol + rtol * y:abs()):logical_and(y:abs():lt(math.huge)))
  end
  local gap = tensor.where(same, 0, d)
  local v = tensor.stack({ close:logical_not():to("f64"):sum(), gap:abs():max(), (gap * gap):sum(),
    (x * y):sum(), (x * x):sum(), (y * y):sum() }, 1):load():totable()
  local alike = v[5] == 0 and v[6] == 0 -- two zeros have no direction to differ in
  return { wrong = math.tointeger(v[1]), max = v[2], relative = v[3] == 0 and 0 or math.sqrt(v[3] / v[6]),
    cosine = alike and 1 or v[4] / (math.sqrt(v[5]) * math.sqrt(v[6])) }
end

local different, equal, unknown = 0, 0, 0

local function report(name, what, r)
  if args.json then
    local out = { { "name", name }, { "result", what } }
    for _, key in ipairs { "wrong", "max", "relative", "cosine" } do
      out[#out + 1] = r and { key, r[key] } or nil
    end
    print(json.encode(json.object(out)))
  elseif what ~= "equal" or args.all then
    print(show(name) .. ": " .. what .. (r and string.format(", max abs %.6g, relative %.6g, cosine %.9g", r.max,
      r.relative, r.cosine) or ""))
  end
end

local function visit(name)
  local p, q = a:info(name), b:info(name)
  if not same_shape(p, q) or (p.dtype ~= q.dtype and not args.any_dtype) then
    different = different + 1
    return report(name, string.format("%s against %s", shape_of(p), shape_of(q)))
  end
  local computed, r = pcall(compare, name)
  if not computed then
    if r.code ~= "Dtype" then
      error(r, 0)
    end
    unknown = unknown + 1
    report(name, r.message)
  elseif r.wrong == 0 then
    equal = equal + 1
    report(name, "equal", r)
  else
    different = different + 1
    report(name, string.format("%d of %d element%s differ", r.wrong, p.numel, p.numel == 1 and "" or "s"), r)
  end
end

local in_b = {}
for _, name in ipairs(b:names()) do
  in_b[name] = true
end
for _, name in ipairs(a:names()) do
  if in_b[name] then
    in_b[name] = nil
    visit(name)
  else
    different = different + 1
    report(name, "only in " .. args[1])
  end
end
for _, name in ipairs(b:names()) do
  if in_b[name] then
    different = different + 1
    report(name, "only in " .. args[2])
  end
end

if args.json then
  print(json.encode(json.object { { "equal", equal }, { "different", different }, { "unknown", unknown } }))
elseif not args.quiet then
  print(string.format("%d equal, %d different%s", equal, different,
    unknown > 0 and string.format(", %d could not be compared", unknown) or ""))
end
os.exit(different > 0 and 1 or unknown > 0 and 2 or 0)
