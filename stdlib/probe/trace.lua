-- SPDX-License-Identifier: Apache-2.0
-- Trace and diagonal of a curvature from products with random signs, with what is left to chance: a fixed number of
-- products and a standard error. A rule that stops when the running mean stands still stops on noise.
return function(define, check, core, told, whole)
  local operator = require "probe.operator"(core)
  local lanczos = require "probe.lanczos"(core)
  local progress = require "probe.progress"(core)
  local journal = require "probe.journal"(core)
  local mean_of = require "probe.mean"
  local record = require "probe.record"

  -- v' A v for random signs v: its mean is the trace (Hutchinson 1990).
  local function hutchinson(op, o)
    local out = {}
    for k = 1, o.samples do
      out[k] = o.once({ k }, function()
        local v = operator.signs(op, o.seed, k)
        return v:dot(op.apply(v))
      end)
      o.draw(k)
    end
    local mean, err = mean_of(out)
    return mean, err, out, o.samples
  end

  -- A third of the products finds where most of the trace is, a third takes that exactly, a third estimates the rest
  -- (Meyer, Musco, Musco, Woodruff 2021).
  local function hutch_plus(op, o)
    local k = math.min(o.samples // 3, op.n)
    local basis = lanczos.basis(o.what, op, k, "samples / 3")
    local products = 0
    local function made()
      products = products + 1
      o.draw(products)
    end
    local span = o.loop({ "basis" }, function(loop)
      local found, first = 0, 1
      if loop.state then
        found, first, products = loop.state.found, loop.state.done + 1, loop.state.done
        if found > 0 then basis:first(found):copy_(loop.state.rows) end
      end
      for i = first, k do
        local w = op.apply(operator.signs(op, o.seed, i))
        local before = w:norm()
        w = basis:orthogonal(found, w)
        local after = w:norm()
        if after > before * lanczos.smallest[op.dtype] * 10 then
          found = found + 1
          basis:set(found, w / after)
        end
        made()
        loop.keep(function() return { found = found, done = i, rows = found > 0 and basis:first(found) or nil } end)
      end
      return { found = found, rows = found > 0 and basis:first(found) or nil }
    end)
    local found = span.found
    products = k
    if found > 0 then basis:first(found):copy_(span.rows) end
    local exact = 0
    for i = 1, found do
      exact = exact + o.once({ "exact", i }, function()
        local q = basis.q[i]:clone()
        return q:dot(op.apply(q))
      end)
      made()
    end
    local rest = {}
    for i = 1, found < op.n and o.samples - 2 * k or 0 do
      rest[i] = o.once({ "rest", i }, function()
        local g = basis:orthogonal(found, operator.signs(op, o.seed, k + i))
        return g:dot(op.apply(g))
      end)
      made()
    end
    if #rest == 0 then return exact, 0.0, rest, products end
    local mean, err = mean_of(rest)
    return exact + mean, err, rest, products
  end

  local methods = { hutchinson = hutchinson, ["hutch++"] = hutch_plus }

  local trace_record = record.kind("trace", {
    rows = function(r)
      local rows = {}
      for i, v in ipairs(r.samples) do rows[i] = { i, v } end
      return { "sample", "value" }, rows
    end,
    text = function(r)
      return ("trace of the %s: %.6g, standard error %.2g (%s, %d products, %d parameters)"):format(r.of, r.trace,
        r.error, r.method, r.products, r.n)
    end,
    plot = function(r, o)
      local mean, sum = {}, 0
      for i, v in ipairs(r.samples) do
        sum = sum + v
        mean[i] = sum / i
      end
      return plot.line(record.with({ { "samples", r.samples }, { "running mean", mean },
        title = "trace of the " .. r.of, xlabel = "sample", ylabel = "trace" }, o))
    end,
  })

  local function trace(H, o)
    local what = "probe.trace"
    check(what, o, { "method", "samples", "seed", "kind", "only", "journal" })
    o = o or {}
    local op = operator.of(what, H, o)
    local method = o.method or "hutchinson"
    if not methods[method] then
      error(('%s: method = %q; expected "hutchinson" or "hutch++"'):format(what, tostring(method)), 0)
    end
    local samples = whole(what, o, "samples", method == "hutch++" and 6 or 2, 30)
    local draw <close> = progress(what, samples, "products")
    local j <close> = journal.open(what, o, { H }, draw)
    local value, err, list, products = methods[method](op, { what = what, samples = samples,
      seed = whole(what, o, "seed", 0, 0), draw = draw, once = j.once, loop = j.loop })
    return trace_record { of = op.title, method = method, n = op.n, trace = value, error = err, samples = list,
      products = products, seed = o.seed or 0 }
  end

  local function diagonal(H, o)
    local what = "probe.diagonal"
    check(what, o, { "samples", "seed", "kind", "only", "journal" })
    o = o or {}
    local op = operator.of(what, H, o)
    local samples, seed = whole(what, o, "samples", 2, 100), whole(what, o, "seed", 0, 0)
    local draw <close> = progress(what, samples, "products")
    local j <close> = journal.open(what, o, { H }, draw)
    local sums = j.loop({ "samples" }, function(loop)
      local s = loop.state or { done = 0, mean = tensor.zeros({ op.n }, { dtype = "f64" }),
        squares = tensor.zeros({ op.n }, { dtype = "f64" }) }
      for k = s.done + 1, samples do -- Welford's recurrence: nothing cancels
        local v = operator.signs(op, seed, k)
        local d = (v * op.apply(v)):to "f64"
        local off = d - s.mean
        local mean = s.mean + off / k
        s = { done = k, mean = mean, squares = s.squares + off * (d - mean) }
        draw(k)
        loop.keep(function() return s end)
      end
      return s
    end)
    local err = (sums.squares / ((samples - 1) * samples)):sqrt()
    return op.unpack(sums.mean:to(op.dtype)), op.unpack(err:to(op.dtype))
  end

  local made = "local h = tensor { {3, 1}, {1, 2} }\n"

  define("probe.trace",
    "probe.trace(H, {method = \"hutchinson\", samples = 30, seed = 0, kind = \"hessian\", only =, journal =}) "
    .. "-> record",
    "How much does the loss bend over all directions together? The trace of its Hessian, the sum of all eigenvalues, "
    .. "with "
    .. "its standard error (r.trace, r.error) from a fixed number of products.\n"
    .. "  method: \"hutchinson\": the mean of v' H v over random signs v, whose error falls as 1 / sqrt(samples). "
    .. "\"hutch++\" (Meyer et al. 2021, arXiv:2010.09649): a third of the samples each for finding the largest part, "
    .. "taking it exactly, and estimating the rest: far better where few eigenvalues make most of the trace and "
    .. "samples are "
    .. "more than three times as many as those; worse where they are not. Its basis is held in memory\n"
    .. "  samples: products in all\n"
    .. "  H, kind, only, journal: as in probe.eigenvalues\n"
    .. "Reading it: as r.trace ± r.error. For a network of ReLUs and linear maps the traces of Hessian and "
    .. "Gauss-Newton matrix are equal. Cost: a product, about a gradient or two, for each sample. Where it "
    .. "misleads: the error says what chance does, and nothing of the choice of data; positive and negative "
    .. "eigenvalues cancel.",
    made .. "local r = probe.trace(h, { samples = 50 })\nprint(math.abs(r.trace - 5) < 4 * r.error)\n-- > true",
    told(trace))

  define("probe.diagonal",
    "probe.diagonal(H, {samples = 100, seed = 0, kind = \"hessian\", only =, journal =}) -> vector, vector",
    "How does the loss bend along each parameter alone? The diagonal of the Hessian, estimated as the mean of v * "
    .. "(H v) over random signs v (Bekas, Kokiopoulou, Saad 2007), and the standard error of each entry: models of "
    .. "mass 0. The noise of an entry is the norm of the rest of its row, so entries that are small beside those of "
    .. "their neighbours need many samples; exact values of a small network are the diagonal of probe.matrix, "
    .. "positive ones of the Gauss-Newton kind probe.fisher.\n"
    .. "  H, kind, only, journal: as in probe.eigenvalues\n"
    .. "Reading it: read entries against their errors, and sums over tensors before single ones. Cost: a product "
    .. "for each sample. Where it misleads: what lies beside the diagonal is often more, and a ReLU network's "
    .. "layers can be rescaled.",
    "local d = probe.diagonal(tensor { {3, 0}, {0, 2} }, { samples = 2 })\nprint(d)\n-- > f32[2]\n-- > [3., 2.]",
    told(diagonal))
end
