-- SPDX-License-Identifier: Apache-2.0
-- Calls of every documented function with arguments drawn at random: what is wrong is told by an error of that
-- function, never by one of the library's own lines, and nothing else comes to pass. What the two tests share.
local D = "examples/data/"
local base, low = model.open(D .. "base.safetensors"), model.open(D .. "low.safetensors")
local net, set = nn.mlp { 2, 3, 2 }, data.two_moons { n = 6, seed = 1 }
local theta, other = net:init { seed = 1 }, net:init { seed = 2 }

local dtypes = { "f32", "f64", "f16", "bf16", "i64", "i32", "i16", "i8", "u8", "bool" }
local texts = { "", "x", "f32", "bf16", "mean", "fc1", ".*", "(", "%", "zero", "ij,jk->ik", "/nowhere/x", "relu",
  ("a"):rep(300), "layers.0", "\0", "é" }
local numbers = { 0, 1, -1, 2, 3, 0.5, 1e308, -1e308, 0 / 0, 1 / 0, -1 / 0, math.maxinteger, math.mininteger, 2 ^ 31,
  2 ^ 53, 7, 100 }
local keys = { "dim", "keepdim", "dtype", "size", "seed", "base", "weight", "axis", "p", "k", "stride", "padding", "x",
  "y", "batch", "epochs" }
local objects = { base, low, theta, low - base, 0.5 * base, base:only "fc1", net, set }

local function one(list) return list[math.random(#list)] end

local function some_tensor()
  local shape = {}
  for d = 1, math.random(0, 4) do shape[d] = math.random(0, 4) end
  local t = tensor.randn(shape, math.random(9)):to(one(dtypes))
  if #shape == 2 and math.random() < 0.3 then return t:t() end
  return t
end

local function anything(depth)
  local kind = math.random(14)
  if kind <= 4 then return some_tensor() end
  if kind == 5 then return one(texts) end
  if kind <= 7 then return one(numbers) end
  if kind == 8 then return math.random() < 0.5 end
  if kind == 9 then return one(objects) end
  if kind == 10 then return nil end
  if kind == 11 then return function(...) return ... end end
  if kind == 12 or depth == 3 then return math.random(-3, 6) end
  local t = {}
  for i = 1, math.random(0, 4) do t[i] = anything(depth + 1) end
  if kind == 14 then t[one(keys)] = anything(depth + 1) end
  return t
end

-- Whose methods are called. What is added to is made anew for each call.
local function always(v) return function() return v end end
local loss = net:loss(set)
local classes = { tensor = some_tensor, model = always(base), dataset = always(set), net = always(net), loss = always(loss),
  linearisation = always(loss:linearize(theta)), figure = always(plot.line { { 1, 2 } }),
  alignment = always(align.random(net, { seed = 1 })), path = always(probe.path(loss, theta, other, { points = 3 })),
  record = always(probe.task_vectors { base = theta, other, 2 * other - theta }), average = train.ema, swag = train.swag,
  search = function() return search.grid { a = { 1, 2 } } end,
  cmaes = function() return search.cmaes { start = { x = 1 }, sigma = 1, seed = 1, evals = 4 } end }

local function resolve(name)
  local class, method = name:match "^([%w_]+):([%w_]+)$"
  if class then
    return classes[class] and function(...)
      local object = classes[class] {}
      if type(object) ~= "userdata" and type(object) ~= "table" then return nil end -- of no dimensions: a number
      local f = object[method]
      if type(f) == "function" then return f(object, ...) end -- else a field
    end
  end
  local at = _G
  for part in name:gmatch "[^.]+" do
    local there, value = pcall(function() return at[part] end)
    at = there and value or nil
  end
  return type(at) == "function" and at or nil
end

-- They write, print or ask a child process.
local function left_out(name)
  return name:find "save" or name:find "print" or name == "help" or name == "tarn.untrusted"
end

-- arguments(seed, calls): as many calls of each function; how many there were.
return function(seed, calls)
  math.randomseed(seed)
  local count, leaks = 0, {}
  for _, doc in ipairs(tarn.docs()) do
    local f = not left_out(doc.name) and resolve(doc.name)
    for _ = 1, f and calls or 0 do
      local n, list = math.random(0, 4), {}
      for i = 1, n do list[i] = anything(0) end
      local ok, got = pcall(f, table.unpack(list, 1, n))
      local shown, said = pcall(tostring, got)
      said = tostring(said):gsub("tests/stdlib/", "")
      ok = ok and shown
      local leaked = said:find "attempt to" or said:find "stdlib/[%w/_]+%.lua:%d+: bad argument" or said:find "table index"
        or said:find "inside tarn" or said == ""
      if not ok and leaked then
        leaks[#leaks + 1] = doc.name .. ": " .. said:gsub("\n.*", "")
      end
      count = count + 1
    end
  end
  if #leaks > 0 then error(#leaks .. " internal errors:\n" .. table.concat(leaks, "\n", 1, math.min(#leaks, 40)), 0) end
  return count
end
