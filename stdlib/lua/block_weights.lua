-- SPDX-License-Identifier: Apache-2.0
-- Block weights of the image generators' community: the blocks of a UNet in the order of its lists, where
-- tensors outside the blocks belong, and the named presets, each by the function that makes its numbers
-- rather than by a list of them. Data for by.blocks.

local blocks = { "BASE" }
for _, part in ipairs { { "IN", 12 }, { "M", 1 }, { "OUT", 12 } } do
  for k = 0, part[2] - 1 do
    blocks[#blocks + 1] = string.format("%s%02d", part[1], k)
  end
end

-- SDXL has nine blocks on either side.
local short = {}
for _, block in ipairs(blocks) do
  local k = math.tointeger(block:match "%d+$")
  if not k or k < 9 then
    short[#short + 1] = block
  end
end

-- Names outside the blocks: the first pattern found decides; what none finds is BASE.
local outside = {
  { "^first_stage_model%.", "VAE" }, { "^vae%.", "VAE" },
  { "time_embed", "TIME" }, { "label_emb", "TIME" }, { "add_embedding%.", "TIME" },
  { "diffusion_model%.out%.", "HEAD" }, { "^out%.%d+%.", "HEAD" }, { "^conv_norm_out%.", "HEAD" },
  { "^conv_out%.", "HEAD" },
}

-- A function of x from 0 (IN00) to 1 (OUT11).
local function fold(y) -- up to 1, down to 0, up again
  y = y % 2
  return y > 1 and 2 - y or y
end
local function step(x) return x * x * (3 - 2 * x) end
local function cosine(x) -- to 12 digits, so that no library of sines shows
  return math.floor((1 + math.cos(math.pi * x)) / 2 * 1e12 + 0.5) / 1e12
end
local function hermite(x) -- a cubic from 0 to 1 with slope 25 / 6 at both ends
  return step(x) + 25 / 6 * x * (x - 1) * (2 * x - 1)
end
local function raised(x) -- the same from 1 / 24 on, but for IN00
  return x == 0 and 0 or 1 / 24 + 23 / 24 * step(x) + 25 / 6 * x * (x - 1) * (2 * x - 1)
end
local function constant(value) return function() return value end end
local function reversed(f) return function(x) return 1 - f(x) end end

-- Runs of blocks: length, value, length, value …
local function runs(list)
  local values = {}
  for k = 1, #list, 2 do
    for _ = 1, list[k] do
      values[#values + 1] = list[k + 1]
    end
  end
  return function(x) return values[math.tointeger(math.floor(24 * x + 0.5)) + 1] end
end
local function wrap(n) return runs { n, 1, 25 - 2 * n, 0, n, 1 } end
local function ring(lead, width, gap)
  return runs { lead, 0, width, 1, gap, 0, width, 1, 25 - lead - 2 * width - gap, 0 }
end

local presets = {
  ALL_A = constant(0), ALL_B = constant(1), FLAT_25 = constant(0.25), FLAT_75 = constant(0.75),
  GRAD_V = function(x) return math.abs(1 - 2 * x) end,
  GRAD_A = function(x) return 1 - math.abs(1 - 2 * x) end,
  WRAP08 = wrap(4), WRAP12 = wrap(6), WRAP14 = wrap(7), WRAP16 = wrap(8),
  MID12_50 = runs { 5, 0, 14, 0.5, 6, 0 },
  OUT07 = runs { 18, 0, 7, 1 }, OUT12 = runs { 13, 0, 12, 1 }, OUT12_5 = runs { 12, 0, 1, 0.5, 12, 1 },
  RING08_5 = ring(6, 4, 5), RING10_5 = ring(5, 5, 5), RING10_3 = ring(6, 5, 3),
  RING08_SOFT = runs { 5, 0, 1, 0.5, 3, 1, 1, 0.5, 5, 0, 1, 0.5, 3, 1, 1, 0.5, 5, 0 },
  SMOOTHSTEP = step, ["REVERSE-SMOOTHSTEP"] = reversed(step),
  COSINE = cosine, REVERSE_COSINE = reversed(cosine),
  TRUE_CUBIC_HERMITE = raised, TRUE_REVERSE_CUBIC_HERMITE = reversed(raised),
  FAKE_CUBIC_HERMITE = hermite, FAKE_REVERSE_CUBIC_HERMITE = reversed(hermite),
}
for k = 2, 4 do
  local times = function(x) return fold(k * step(x)) end
  local over = function(x) return step(fold(k * x)) end
  presets["SMOOTHSTEP*" .. k], presets["R_SMOOTHSTEP*" .. k] = times, reversed(times)
  presets["SMOOTHSTEP/" .. k], presets["R_SMOOTHSTEP/" .. k] = over, reversed(over)
end

-- What presets say of BASE: nothing of b, but for the one that takes all of it.
local base = { ALL_B = 1 }

return { blocks = blocks, short = short, outside = outside, presets = presets, base = base }
