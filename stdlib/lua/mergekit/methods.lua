-- SPDX-License-Identifier: Apache-2.0
-- mergekit's merge methods as rows: what its configurations may say, with the defaults of mergekit
-- 0.1.5, and how each is said in tarn. Data only; mergekit/config.lua checks by it and
-- mergekit/build.lua applies it.
--
-- base: "required", "joins" (one of the merged models: a base that is not listed is added), or
-- false. least, most: models besides a required base. Parameters: model = true has one value per
-- model; option names the option of merge.NAME (default: the same; false: accepted, no effect);
-- default nil: required; choice = {[true] =, [false] =} turns a flag into an option's text.
-- options: what else merge.NAME is told, so that variants are mergekit's.

local weight = { model = true }
local density = { model = true, default = 1, min = 0, max = 1 }
local int8_mask = { flag = true, default = false, option = false }
local lambda = { default = 1 }
local function flag(default) return { flag = true, default = default } end
local function rescale(default)
  return { flag = true, default = default, choice = { [true] = "l1", [false] = "none" }, shared = true }
end

local methods = {
  linear = { base = "joins", least = 1, parameters = { weight = weight, normalize = flag(true) } },
  slerp = { base = "joins", base_needed = true, least = 2, most = 2, base_first = true,
    parameters = { t = { min = 0, max = 1 } } },
  karcher = { base = "joins", least = 1, parameters = {
    max_iter = { default = 10, min = 0, max = 100000, integer = true },
    tol = { default = 1e-5, min = 0, max = 1 } } },
  model_stock = { base = "required", least = 2, options = { norm_floor = 1e-6 }, parameters = {
    filter_wise = { flag = true, default = false, only = false } } },
  task_arithmetic = { base = "required", least = 1, parameters = {
    weight = weight, lambda = lambda, normalize = flag(false), int8_mask = int8_mask,
    density = { model = true, default = 1, min = 0, max = 1, option = false },
    rescale = { flag = true, default = false, option = false } } },
  ties = { base = "required", least = 1, options = { trim = "tensor" }, parameters = {
    weight = weight, density = density, lambda = lambda, normalize = flag(true),
    rescale = rescale(false), int8_mask = int8_mask } },
  dare_linear = { base = "required", least = 1, random = true, parameters = {
    weight = weight, density = density, lambda = lambda, normalize = flag(false),
    rescale = rescale(true), int8_mask = int8_mask } },
  dare_ties = { base = "required", least = 1, random = true, parameters = {
    weight = weight, density = density, lambda = lambda, normalize = flag(false),
    rescale = rescale(true), int8_mask = int8_mask } },
  passthrough = { base = false, least = 1, most = 1, parameters = {
    scale = { model = true, default = 1 } } },
}

-- mergekit's other methods: real names, which tarn does not have yet.
local absent = { nuslerp = true, multislerp = true, breadcrumbs = true, breadcrumbs_ties = true,
  della = true, della_linear = true, sce = true, ram = true, ramplus_tl = true, nearswap = true,
  arcee_fusion = true }

return { methods = methods, absent = absent }
