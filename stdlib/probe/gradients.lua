-- SPDX-License-Identifier: Apache-2.0
-- How gradients of single examples (or batches) agree: everything follows from their Gram matrix.
return function(define, check, core, told, whole)
  local examples = require "probe.examples"(core)
  local progress = require "probe.progress"(core)
  local journal = require "probe.journal"(core)
  local record = require "probe.record"

  local gradients_record = record.kind("gradients", {
    text = function(r)
      local text = ("gradients of %d parts of %d examples: confusion %.4g, least cosine %.4g, mean cosine %.4g\n"
        .. "diversity %.4g, noise scale %.4g"):format(r.parts, r.m, r.confusion, r.least_cosine, r.mean_cosine,
        r.diversity, r.noise_scale)
      if r.within then text = text .. (", stiffness %.4g within classes"):format(r.within) end
      if r.between then text = text .. (", %.4g between"):format(r.between) end
      return text
    end,
    rows = function(r)
      local head, rows = {}, r.inner:totable()
      for k = 1, r.parts do head[k] = ("%d"):format(k) end
      return head, rows
    end,
    plot = function(r, o)
      local p = { r.cosines, written = false }
      for key, v in pairs(o) do p[key] = v end
      return plot.matrix(p)
    end,
  })

  -- Means of cosines over pairs of equal and of different labels.
  local function stiffness(cosines, labels)
    local rows, sums, counts = cosines:totable(), { 0, 0 }, { 0, 0 }
    for i = 1, #rows do
      for k = 1, i - 1 do
        local w = labels[i] == labels[k] and 1 or 2
        sums[w], counts[w] = sums[w] + rows[i][k], counts[w] + 1
      end
    end
    return counts[1] > 0 and sums[1] / counts[1] or nil, counts[2] > 0 and sums[2] / counts[2] or nil
  end

  local function gradients(f, theta, o)
    local what = "probe.gradients"
    check(what, o, { "m", "only", "journal" })
    o = o or {}
    local m = whole(what, o, "m", 1, 1)
    local draw <close> = progress(what, nil, "gradients")
    local j <close> = journal.open(what, o, { f, theta }, draw)
    local made = j.loop({ "gradients" }, function(loop)
      local g, about = examples.gradients(what, f, theta, m, o.only, draw, loop)
      return { gram = examples.gram(g), about = about }
    end)
    local gram, about = made.gram, made.about
    local k = about.parts
    if k < 2 then error(what .. ": two gradients at least are compared; give more data or a smaller m", 0) end
    local eye = tensor.eye(k):to "f64"
    local squares = (gram * eye):sum(1)
    local size = squares:sqrt()
    local cosines = gram / (size:reshape { k, 1 } * size):clamp(1e-300, math.huge)
    local total, all = gram:sum(), squares:sum()
    -- |mean gradient|², and the trace of the sample covariance.
    local mean, noise = total / (k * k), (all - total / k) / (k - 1)
    local r = { parts = k, m = m, n = about.n, parameters = about.parameters, inner = gram, cosines = cosines }
    r.confusion = tensor.where(eye:gt(0), math.huge, gram):min()
    r.least_cosine = tensor.where(eye:gt(0), math.huge, cosines):min()
    r.mean_cosine = (cosines:sum() - (cosines * eye):sum()) / (k * (k - 1))
    r.diversity, r.gradient_norm = all / total, math.sqrt(math.max(mean, 0))
    r.noise_trace, r.noise_scale = noise, noise / mean
    if about.labels then r.within, r.between = stiffness(cosines, about.labels) end
    return gradients_record(r)
  end

  define("probe.gradients", "probe.gradients(f, theta, {m = 1, only =, journal =}) -> record",
    "Do examples pull the parameters the same way? Inner products (r.inner) and cosines (r.cosines) of the "
    .. "gradients "
    .. "of single examples at theta, and what follows from them.\n"
    .. "  f: net:loss(data), over some hundred examples: each gradient is held in memory, and refused where they "
    .. "do not fit\n"
    .. "  m: gradients of m examples at a time, in the order of the data\n"
    .. "  only: by these parameters, as in m:only; journal: as in probe.eigenvalues\n"
    .. "confusion: the least inner product of two (gradient confusion is low where it is near 0; Sankararaman et "
    .. "al. 2019, "
    .. "arXiv:1904.06963). least_cosine, mean_cosine over pairs. diversity: Σ |g|² / |Σ g|² (Yin et al. 2017, "
    .. "arXiv:1706.05699): batches up to about n times it pay. noise_trace: trace of the sample covariance, over n "
    .. "- 1; "
    .. "noise_scale: that over |mean g|² (McCandlish et al. 2018, arXiv:1812.06162). within, between: mean cosines "
    .. "of pairs "
    .. "of the same label and of different ones, stiffness (Fort et al. 2019, arXiv:1901.09491).\n"
    .. "Reading it: r:plot() shows the cosines; blocks are classes when the data are in their order. Cost: a "
    .. "gradient a part, and a vector of all parameters in memory for each.\n"
    .. "Where it misleads: near a minimum the mean gradient is nearly zero, and ratios to it say little.",
    "local net = nn.mlp { 2, 3 }\nlocal f = net:loss { x = tensor { {1, 2}, {1, 2} }, y = tensor({ 0, 0 }, { dtype "
    .. "= \"i64\" }) }\n"
    .. "print((\"%.3f\"):format(probe.gradients(f, net:init { seed = 1 }).least_cosine))\n-- > 1.000",
    told(gradients))
end
