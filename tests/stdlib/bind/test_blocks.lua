-- SPDX-License-Identifier: Apache-2.0
-- by.blocks: every block of a UNet under both namings, what lies outside them, lists of 26 and 20, the
-- presets against numbers worked out from their definitions, errors.
local check = require "check"
local folder <close> = require "folder"()

local x = tensor { 1 }

-- A model with the names of a UNet in one file: `sides` blocks in and out.
local function published(sides, prefix)
  local t = {}
  for k = 0, sides - 1 do
    t[string.format("%sinput_blocks.%d.0.weight", prefix, k)] = x
    t[string.format("%soutput_blocks.%d.1.proj_in.weight", prefix, k)] = x
  end
  t[prefix .. "middle_block.1.norm.weight"] = x
  t[prefix .. "time_embed.0.weight"], t[prefix .. "out.2.bias"] = x, x
  t["first_stage_model.decoder.conv_in.weight"] = x
  t["cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight"] = x
  return model.new(t)
end

-- The same network as diffusers names it: each block with its name as expected.
local function diffusers()
  local t, want = {}, {}
  local function put(name, block) t[name], want[name] = x, block end
  put("conv_in.weight", "IN00")
  local k = 1
  for stage = 0, 3 do
    for r = 0, 1 do
      put(string.format("down_blocks.%d.resnets.%d.conv1.weight", stage, r), string.format("IN%02d", k))
      if stage < 3 then
        put(string.format("down_blocks.%d.attentions.%d.proj_in.weight", stage, r), string.format("IN%02d", k))
      end
      k = k + 1
    end
    if stage < 3 then
      put(string.format("down_blocks.%d.downsamplers.0.conv.weight", stage), string.format("IN%02d", k))
      k = k + 1
    end
  end
  put("mid_block.resnets.0.conv1.weight", "M00")
  put("mid_block.attentions.0.norm.weight", "M00")
  for stage = 0, 3 do
    for r = 0, 2 do
      local block = string.format("OUT%02d", 3 * stage + r)
      put(string.format("up_blocks.%d.resnets.%d.conv1.weight", stage, r), block)
      if r == 2 and stage < 3 then
        put(string.format("up_blocks.%d.upsamplers.0.conv.weight", stage), block)
      end
    end
  end
  put("time_embedding.linear_1.weight", "IN00")
  put("conv_norm_out.weight", "OUT11")
  put("conv_out.bias", "OUT11")
  return model.new(t), want
end

-- The schedule's value for every tensor of a model of ones.
local function values(schedule, m)
  local out, scaled = {}, schedule * m
  for _, name in ipairs(m:names()) do
    out[name] = scaled:tensor(name):to("f64"):load()[1]
  end
  return out
end

local function near(a, b, what)
  if math.abs(a - b) > 1e-7 then
    error(string.format("%s: %.17g, expected %.17g", what, a, b), 2)
  end
end

-- ---- names ----

local labels, list = { "BASE" }, { 0.5 }
for k = 0, 11 do labels[#labels + 1] = string.format("IN%02d", k) end
labels[#labels + 1] = "M00"
for k = 0, 11 do labels[#labels + 1] = string.format("OUT%02d", k) end
for k = 2, 26 do list[k] = k / 32 end
local of = {}
for k, label in ipairs(labels) do of[label] = list[k] end

local prefix = "model.diffusion_model."
local sd1, sdxl = published(12, prefix), published(9, prefix)
local function check_published(m, sides, w, value)
  local v = values(w, m)
  for k = 0, sides - 1 do
    near(v[string.format("%sinput_blocks.%d.0.weight", prefix, k)], value[string.format("IN%02d", k)], "IN" .. k)
    near(v[string.format("%soutput_blocks.%d.1.proj_in.weight", prefix, k)], value[string.format("OUT%02d", k)], "OUT" .. k)
  end
  near(v[prefix .. "middle_block.1.norm.weight"], value.M00, "M00")
  near(v[prefix .. "time_embed.0.weight"], value.TIME or value.IN00, "time")
  near(v[prefix .. "out.2.bias"], value.HEAD or value[string.format("OUT%02d", sides - 1)], "out")
  near(v["first_stage_model.decoder.conv_in.weight"], value.VAE or value.BASE, "vae")
  near(v["cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight"], value.BASE, "text")
end
check_published(sd1, 12, by.blocks(list), of)
check_published(sd1, 12, by.blocks(table.concat(list, ", ")), of)
check_published(sd1, 12, by.blocks(of), of)
check_published(sdxl, 9, by.blocks(list), of) -- by name: IN09 … are not there

local short, short_of = {}, {}
for k, label in ipairs(labels) do
  if not label:find "09" and not label:find "1[01]" then
    short[#short + 1] = k / 64
    short_of[label] = k / 64
  end
end
check.equal(#short, 20)
check_published(sdxl, 9, by.blocks(table.concat(short, ",")), short_of)

local named = { VAE = 0.125, TIME = 0.25, HEAD = 0.375, M00 = 0.625 }
local mixed, mixed_of = { "FLAT_75", table.unpack {} }, setmetatable({}, { __index = function(_, k)
  return named[k] or (k == "BASE" and 0 or 0.75)
end })
for k, v in pairs(named) do mixed[k] = v end
check_published(sd1, 12, by.blocks(mixed), mixed_of)

local m, want = diffusers()
local v = values(by.blocks(list), m)
for name, block in pairs(want) do
  near(v[name], of[block], name)
end
check.equal(m:info("up_blocks.1.resnets.0.conv1.weight").block, "OUT03")
check.equal(m:info("mid_block.attentions.0.norm.weight").block, "M00")
check.equal(m:info("conv_out.bias").block, nil)

-- ---- presets ----

-- Values at IN00 … OUT11 of a preset, from a network of 25 blocks.
local function preset(name)
  local at, out = values(by.blocks(name), sd1), {}
  for k = 0, 11 do
    out[k + 1] = at[string.format("%sinput_blocks.%d.0.weight", prefix, k)]
    out[k + 14] = at[string.format("%soutput_blocks.%d.1.proj_in.weight", prefix, k)]
  end
  out[13] = at[prefix .. "middle_block.1.norm.weight"]
  return out, at["first_stage_model.decoder.conv_in.weight"]
end
-- The numbers that lists of merge tools give at some places (counted from 1).
for name, some in pairs {
  GRAD_V = { [1] = 1, [2] = 11 / 12, [13] = 0, [14] = 1 / 12, [25] = 1 },
  GRAD_A = { [1] = 0, [2] = 1 / 12, [13] = 1, [14] = 11 / 12, [25] = 0 },
  FLAT_25 = { [1] = 0.25, [25] = 0.25 }, ALL_A = { [1] = 0, [25] = 0 }, ALL_B = { [1] = 1, [25] = 1 },
  WRAP08 = { [4] = 1, [5] = 0, [21] = 0, [22] = 1 }, WRAP12 = { [6] = 1, [7] = 0, [19] = 0, [20] = 1 },
  WRAP14 = { [7] = 1, [8] = 0, [18] = 0, [19] = 1 }, WRAP16 = { [8] = 1, [9] = 0, [17] = 0, [18] = 1 },
  MID12_50 = { [5] = 0, [6] = 0.5, [19] = 0.5, [20] = 0 },
  OUT07 = { [18] = 0, [19] = 1, [25] = 1 }, OUT12 = { [13] = 0, [14] = 1 }, OUT12_5 = { [12] = 0, [13] = 0.5, [14] = 1 },
  RING08_5 = { [6] = 0, [7] = 1, [10] = 1, [11] = 0, [15] = 0, [16] = 1, [19] = 1, [20] = 0 },
  RING10_5 = { [5] = 0, [6] = 1, [10] = 1, [11] = 0, [15] = 0, [16] = 1, [20] = 1, [21] = 0 },
  RING10_3 = { [6] = 0, [7] = 1, [11] = 1, [12] = 0, [14] = 0, [15] = 1, [19] = 1, [20] = 0 },
  RING08_SOFT = { [5] = 0, [6] = 0.5, [7] = 1, [9] = 1, [10] = 0.5, [11] = 0, [15] = 0, [16] = 0.5, [17] = 1, [20] = 0.5, [21] = 0 },
  SMOOTHSTEP = { [2] = 0.00506365740740741, [7] = 0.15625, [13] = 0.5, [24] = 0.994936342592593 },
  ["REVERSE-SMOOTHSTEP"] = { [1] = 1, [7] = 0.84375, [25] = 0 },
  ["SMOOTHSTEP*2"] = { [2] = 0.0101273148148148, [13] = 1, [14] = 0.875289351851852, [25] = 0 },
  ["SMOOTHSTEP*3"] = { [10] = 0.94921875, [11] = 0.871527777777778, [16] = 0.05078125, [25] = 1 },
  ["R_SMOOTHSTEP*4"] = { [1] = 1, [9] = 0.0370370370370372, [13] = 1, [25] = 1 },
  ["SMOOTHSTEP/2"] = { [2] = 0.0196759259259259, [13] = 1, [25] = 0 },
  ["SMOOTHSTEP/3"] = { [2] = 0.04296875, [9] = 1, [13] = 0.5, [17] = 0, [25] = 1 },
  ["R_SMOOTHSTEP/4"] = { [1] = 1, [7] = 0, [13] = 1, [25] = 1 },
  COSINE = { [1] = 1, [2] = 0.995722430686905, [9] = 0.75, [25] = 0 },
  REVERSE_COSINE = { [2] = 0.00427756931309475, [25] = 1 },
  TRUE_CUBIC_HERMITE = { [2] = 0.199031876929012, [9] = 0.598765432098765, [13] = 0.520833333333333, [24] = 0.842634789737655 },
  FAKE_CUBIC_HERMITE = { [2] = 0.157576195987654, [9] = 0.567901234567901, [13] = 0.5, [24] = 0.842423804012347 },
  TRUE_REVERSE_CUBIC_HERMITE = { [1] = 1, [2] = 0.800968123070988, [25] = 0 },
  FAKE_REVERSE_CUBIC_HERMITE = { [1] = 1, [2] = 0.842423804012346, [25] = 0 },
} do
  local got, base = preset(name)
  check.equal(base, name == "ALL_B" and 1.0 or 0.0, name)
  for k, value in pairs(some) do
    near(got[k], value, name .. " at " .. k)
  end
end

-- ---- in a method, in a plan, in a rule ----

local b = 3 * sd1
local mixed_model = merge.tensor_sum { sd1, b, alpha = by.blocks "ALL_B" }
check.equal(mixed_model:tensor(prefix .. "input_blocks.3.0.weight"):item(), 3.0)
local sum = sd1 + by.blocks { "GRAD_V", BASE = 1 } * (b - sd1)
near(sum:tensor(prefix .. "input_blocks.6.0.weight"):item(), 2, "weighted sum")
sd1:save(folder.path .. "/m.safetensors")
local file = model.open(folder.path .. "/m.safetensors")
local full = merge.add_difference { file, 3 * file, file, alpha = by.blocks(list) }:plan():show(true)
assert(full:find "alpha = 0%.09375 %(by%.blocks%)[^\n]*\n[^\n]*input_blocks%.1%.0%.weight", full)
local nested = by.name { { "proj_in", 0 }, { ".", by.blocks "FLAT_25" } }
near(values(nested, sd1)[prefix .. "output_blocks.2.1.proj_in.weight"], 0, "rule")
near(values(nested, sd1)[prefix .. "input_blocks.2.0.weight"], 0.25, "blocks behind a rule")

-- ---- errors ----

check.raises("no preset is called 'GRAD_W'; did you mean 'GRAD_A'?", by.blocks, "GRAD_W")
check.raises("25 values; a list has 26 (SD1) or 20 (SDXL), BASE first", by.blocks, { table.unpack(list, 1, 25) })
check.raises("'x' is no number", by.blocks, "0,x")
check.raises("value 2 is a string, not a number", by.blocks, { 0, "1", table.unpack(list, 3) })
check.raises("IN12", by.blocks, { IN12 = 1 })
check.raises("M00 is a string", by.blocks, { M00 = "a" })
check.raises("expected a preset's name", by.blocks, 3)
check.raises("IN10, which has no value", function() return by.blocks(short) * sd1 end)
check.raises("is in IN00, which has no value", function() return by.blocks { BASE = 0, M00 = 1 } * sdxl end)
check.raises("the model has no UNet", function() return by.blocks "GRAD_V" * model.open "examples/data/base.safetensors" end)
