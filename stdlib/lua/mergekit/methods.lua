-- SPDX-License-Identifier: Apache-2.0
-- mergekit's merge methods as rows: what its configurations may say, with the defaults of mergekit
-- 0.1.5, and how each is said in tarn. Data only; mergekit/config.lua checks by it and
-- mergekit/build.lua applies it.
--
-- base: "required", "optional" (both apart from the merged models), "joins" (one of them: a base that
-- is not listed is added), or false. least, most: models besides a base that is apart.
-- Parameters: model = true has one value per model; option names the option of merge.NAME (default:
-- the same; false: accepted, no effect); default nil: required; choice = {[true] =, [false] =} turns a
-- flag into an option's text.
-- unused: mergekit takes it and does nothing with it, which is said where it is not the default.
-- warning: said where a flag is on. finish: changes the options of merge.NAME, last of all.
-- method: the name of merge.NAME where it is another.
-- options: what else merge.NAME is told, so that variants are mergekit's.

local weight = { model = true }
local density = { model = true, default = 1, min = 0, max = 1 }
local int8_mask = { flag = true, default = false, option = false }
local lambda = { default = 1 }
local epsilon = { model = true, default = 0.15, min = 0, max = 1 }
local gamma = { model = true, default = 0.01, min = 0, max = 1 }
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
  nuslerp = { base = "optional", least = 2, most = 2, parameters = {
    weight = weight, nuslerp_flatten = flag(true), nuslerp_row_wise = { flag = true, default = false,
      warning = "mergekit interpolates columns by this flag, rows without it; so does this merge" } },
    finish = function(o)
      o.axis = o.nuslerp_flatten and "tensor" or o.nuslerp_row_wise and "column" or "row"
      o.nuslerp_flatten, o.nuslerp_row_wise = nil, nil
    end },
  multislerp = { base = "optional", least = 1, parameters = {
    weight = weight, normalize_weights = { flag = true, default = true, option = "normalize" },
    eps = { default = 1e-8, min = 0, max = 1 } } },
  model_stock = { base = "required", least = 2, options = { norm_floor = 1e-6 }, parameters = {
    filter_wise = { flag = true, default = false, option = "axis",
      choice = { [true] = "row", [false] = "tensor" } } } },
  task_arithmetic = { base = "required", least = 1, parameters = {
    weight = weight, lambda = lambda, normalize = flag(false), int8_mask = int8_mask,
    density = { model = true, default = 1, min = 0, max = 1, option = false, unused = true },
    rescale = { flag = true, default = false, option = false, unused = true } } },
  ties = { base = "required", least = 1, options = { trim = "tensor" }, parameters = {
    weight = weight, density = density, lambda = lambda, normalize = flag(true),
    rescale = rescale(false), int8_mask = int8_mask } },
  dare_linear = { base = "required", least = 1, random = true, parameters = {
    weight = weight, density = density, lambda = lambda, normalize = flag(false),
    rescale = rescale(true), int8_mask = int8_mask } },
  dare_ties = { base = "required", least = 1, random = true, parameters = {
    weight = weight, density = density, lambda = lambda, normalize = flag(false),
    rescale = rescale(true), int8_mask = int8_mask } },
  della = { base = "required", least = 1, random = true, options = { window = "full" }, parameters = {
    weight = weight, density = density, epsilon = epsilon, lambda = lambda, normalize = flag(true),
    rescale = rescale(true), int8_mask = int8_mask } },
  della_linear = { base = "required", least = 1, random = true, options = { window = "full" },
    parameters = { weight = weight, density = density, epsilon = epsilon, lambda = lambda,
      normalize = flag(false), rescale = rescale(true), int8_mask = int8_mask } },
  breadcrumbs = { base = "required", least = 1, parameters = {
    weight = weight, density = density, gamma = gamma, lambda = lambda, normalize = flag(false),
    rescale = rescale(false), int8_mask = int8_mask } },
  breadcrumbs_ties = { base = "required", least = 1, parameters = {
    weight = weight, density = density, gamma = gamma, lambda = lambda, normalize = flag(false),
    rescale = rescale(false), int8_mask = int8_mask } },
  sce = { base = "required", least = 1, options = { of = "varying", energy_floor = 1e-6 }, parameters = {
    select_topk = { default = 1, min = 0, max = 1, option = "density" }, int8_mask = int8_mask } },
  ram = { base = "required", least = 1, parameters = { epsilon = { default = 1e-5, min = 0, max = 1e300 } } },
  ramplus_tl = { base = "required", least = 1, method = "ramplus", options = { scope = "tensor" }, parameters = {
    epsilon = { default = 1e-5, min = 0, max = 1e300 }, r = { default = 0.1 },
    alpha = { default = 0.2, min = 0, max = 1e300 } } },
  arcee_fusion = { base = "required", least = 1, most = 1, parameters = {} },
  nearswap = { base = "required", least = 1, most = 1, parameters = { t = { min = 0, max = 1e300 } } },
  passthrough = { base = false, least = 1, most = 1, parameters = {
    scale = { model = true, default = 1 } } },
}

-- mergekit's other methods: real names, which tarn does not have yet.
local absent = {}

-- The names of all parameters that some method has.
local parameters = {}
for _, row in pairs(methods) do
  for name in pairs(row.parameters) do parameters[name] = true end
end

return { methods = methods, absent = absent, parameters = parameters }
