-- SPDX-License-Identifier: Apache-2.0
-- The density of all eigenvalues by stochastic Lanczos quadrature: for a random start, eigenvalues of the small
-- tridiagonal matrix are nodes, squared first entries of its eigenvectors weights. Nodes and weights are the result;
-- how they are smoothed is a matter of the picture. The trace is also taken with the sharp directions that the first
-- start has found taken out: their part is known, and what is left of the others' starts varies little.
return function(define, check, core, told, whole)
  local operator = require "probe.operator"(core)
  local lanczos = require "probe.lanczos"(core)
  local progress = require "probe.progress"(core)
  local journal = require "probe.journal"(core)
  local mean_of = require "probe.mean"
  local record = require "probe.record"

  local TAKEN = 1e-3 -- converged, for the trace: a residual of this share of the largest
  local FLAT = 1e-4 -- an eigenvalue of this share of the largest is none: it is rounding, in f32

  -- Mean and standard error over starts of Σ w f(node).
  local function moment(nodes, weights, f)
    local values = {}
    for s, list in ipairs(nodes) do
      values[s] = 0
      for k, node in ipairs(list) do values[s] = values[s] + weights[s][k] * f(node) end
    end
    return mean_of(values)
  end

  -- The eigenvalues that the process has found one by one: nodes with a small residual in at least half of the starts,
  -- nodes of different starts being one where they agree to their residuals. Descending.
  local function resolved(r, tolerance)
    local size = math.max(math.abs(r.low), math.abs(r.high))
    local all = {}
    for s, list in ipairs(r.nodes) do
      for k, node in ipairs(list) do
        if r.residuals[s][k] <= tolerance * size then all[#all + 1] = { value = node, start = s } end
      end
    end
    table.sort(all, function(a, b) return a.value > b.value end)
    local out, at = {}, 1
    while at <= #all do
      local seen, count, sum, next_ = {}, 0, 0, at
      while next_ <= #all and all[at].value - all[next_].value <= 2 * tolerance * size and not seen[all[next_].start] do
        seen[all[next_].start] = true
        count, sum = count + 1, sum + all[next_].value
        next_ = next_ + 1
      end
      if 2 * count >= #r.nodes then out[#out + 1] = sum / count end
      at = next_
    end
    return out
  end

  -- The density at `points` places: Σ over starts and nodes of weight times a Gaussian, mean over starts.
  local function density(r, o)
    check("spectrum.density", o, { "points", "sigma", "low", "high" })
    o = o or {}
    local span, size = r.high - r.low, math.max(math.abs(r.low), math.abs(r.high))
    if span <= 1e-9 * size then span = size > 0 and size or 1.0 end -- one eigenvalue
    local sigma, points = o.sigma or 0.002 * span, o.points or 1000
    if not (type(sigma) == "number" and sigma > 0) then error("spectrum.density: sigma is a number above 0", 0) end
    local low, high = o.low or r.low - 5 * sigma, o.high or r.high + 5 * sigma
    local x, y = {}, {}
    for i = 1, points do
      x[i], y[i] = low + (high - low) * (i - 1) / (points - 1), 0.0
    end
    local step, scale = (high - low) / (points - 1), 1 / (math.sqrt(2 * math.pi) * sigma * #r.nodes)
    for s, list in ipairs(r.nodes) do
      for k, node in ipairs(list) do
        local from = math.max(1, math.ceil((node - 9 * sigma - low) / step) + 1)
        for i = from, math.min(points, (node + 9 * sigma - low) // step + 1 | 0) do
          y[i] = y[i] + r.weights[s][k] * scale * math.exp(-0.5 * ((x[i] - node) / sigma) ^ 2)
        end
      end
    end
    return x, y, sigma
  end

  local spectrum_record = record.kind("spectrum", {
    rows = function(r)
      local rows = {}
      for s, list in ipairs(r.nodes) do
        for k, node in ipairs(list) do rows[#rows + 1] = { s, node, r.weights[s][k], r.residuals[s][k] } end
      end
      return { "start", "node", "weight", "residual" }, rows
    end,
    text = function(r)
      local shown = {}
      for i = 1, math.min(12, #r.outliers) do shown[i] = ("%.4g"):format(r.outliers[i]) end
      return ("spectrum of the %s: %d parameters, %d starts of %d steps\n"
        .. "from %.4g to %.4g; trace %.4g, standard error %.2g; %.3g %% flat, %.3g %% negative\n"
        .. "resolved: %s%s"):format(r.of, r.n, r.starts, r.steps, r.low, r.high, r.trace, r.trace_error,
        100 * r.flat, 100 * r.negative, #shown > 0 and table.concat(shown, "  ") or "none",
        #r.outliers > 12 and "  …" or "")
    end,
    plot = function(r, options) return plot.spectrum(r, options) end,
    methods = { density = density },
  })

  -- ---- the trace, with what the first start has found taken out ----

  -- The Ritz vectors [k, n] that have converged, largest first, at most `most`, and their values; nil: there are none.
  local function sharp(basis, values, vectors, residuals, most)
    local size = math.max(math.abs(values[1]), math.abs(values[#values]))
    local list, rows, ritz = {}, {}, {}
    for i, v in ipairs(values) do
      if residuals[i] <= TAKEN * size and math.abs(v) > TAKEN * size then list[#list + 1] = i end
    end
    table.sort(list, function(a, b) return math.abs(values[a]) > math.abs(values[b]) end)
    for k = 1, math.min(#list, most) do rows[k], ritz[k] = vectors[{ {}, list[k] }], values[list[k]] end
    if #rows > 0 then return basis:turn(tensor.stack(rows, 1), true), ritz end
  end

  -- v' P H P v of another start v = sqrt(n) q, P the projection onto what is at right angles to the vectors u, whose
  -- products u' H u' are the diagonal matrix of `ritz`. Its mean is the trace of P H P whether or not u has converged,
  -- and the rest of the trace is the sum of `ritz` (Meyer, Musco, Musco, Woodruff 2021). The products with q are known:
  -- H q is the first step of its Lanczos process. With it |P H v|², whose mean is the squared Frobenius norm of P H P
  -- where u has converged: half of the most that the variance of v' P H P v can be.
  local function remainder(n, basis, t, m, u, ritz)
    local q = basis.q[1]
    local hq = t[1][1] * q
    if m > 1 then hq = hq + t[1][2] * basis.q[2] end
    local a, b = u:matmul(q):totable(), u:matmul(hq):totable()
    local rest, square = t[1][1], hq:norm() ^ 2
    for i, v in ipairs(ritz) do rest, square = rest - 2 * a[i] * b[i] + v * a[i] * a[i], square - b[i] ^ 2 end
    return n * rest, n * math.max(square, 0)
  end

  local function one_start(what, op, steps, seed, start, run, loop)
    local basis, t, k, size = run.basis, {}, 0, nil
    local v = operator.signs(op, seed, start)
    local q = v / v:norm()
    if loop.state then t, k, q, size = lanczos.restore(basis, loop.state) end
    local m, _, beta = lanczos.grow(op, basis, t, k, steps, q, { what = what, products = run.products + k, size = size,
      draw = run.draw, keep = function(...)
        local last = table.pack(...)
        loop.keep(function() return lanczos.state(basis, t, table.unpack(last)) end)
      end })
    local values, vectors = lanczos.solve(t, m)
    local first, last = vectors[1]:totable(), vectors[m]:totable()
    local weights, residuals = {}, {}
    for i = 1, m do weights[i], residuals[i] = first[i] ^ 2, math.abs(beta * last[i]) end
    local one = { values = values, weights = weights, residuals = residuals }
    if run.most > 0 and start == 1 then
      one.sharp, one.ritz = sharp(basis, values, vectors, residuals, run.most)
    elseif run.sharp then
      one.rest, one.rest_square = remainder(op.n, basis, t, m, run.sharp, run.ritz)
    end
    return one
  end

  local function spectrum(H, o)
    local what = "probe.spectrum"
    check(what, o, { "steps", "starts", "seed", "kind", "only", "journal" })
    o = o or {}
    local op = operator.of(what, H, o)
    local steps = math.min(whole(what, o, "steps", 2, 80), op.n)
    local starts, seed = whole(what, o, "starts", 1, 4), whole(what, o, "seed", 0, 0)
    local r = { of = op.title, n = op.n, steps = steps, starts = starts, seed = seed, nodes = {}, weights = {},
      residuals = {}, low = math.huge, high = -math.huge }
    local draw <close> = progress(what, steps * starts, "products")
    local j <close> = journal.open(what, o, { H }, draw)
    local most = starts > 2 and steps // 4 or 0 -- how many sharp directions are held besides
    operator.fits(what, op.n, op.dtype, steps + most, 8, "steps", most > 0 and 1.25 or 1)
    local run, rest = { basis = lanczos.basis(what, op, steps, "steps"), products = 0, draw = draw, most = most }, {}
    local squares = {}
    for s = 1, starts do
      local one = j.loop({ "start", s }, function(loop) return one_start(what, op, steps, seed, s, run, loop) end)
      r.nodes[s], r.weights[s], r.residuals[s] = one.values, one.weights, one.residuals
      run.products = run.products + #one.values
      run.sharp, run.ritz = run.sharp or one.sharp, run.ritz or one.ritz
      rest[#rest + 1], squares[#squares + 1] = one.rest, one.rest_square
      r.low, r.high = math.min(r.low, r.nodes[s][1]), math.max(r.high, r.nodes[s][#r.nodes[s]])
    end
    r.products = run.products
    r.trace_plain, r.trace_plain_error = moment(r.nodes, r.weights, function(v) return op.n * v end)
    r.trace, r.trace_error, r.sharp = r.trace_plain, r.trace_plain_error, run.ritz and #run.ritz or 0
    if run.ritz then
      r.trace, r.trace_error = mean_of(rest)
      -- Two or three starts tell their own spread badly (a journal of an earlier version has nothing else).
      if #squares == #rest then r.trace_error = math.sqrt(2 * mean_of(squares) / #rest) end
      for _, v in ipairs(run.ritz) do r.trace = r.trace + v end
    end
    r.square, r.square_error = moment(r.nodes, r.weights, function(v) return op.n * v * v end)
    local none = FLAT * math.max(math.abs(r.low), math.abs(r.high))
    r.negative = moment(r.nodes, r.weights, function(v) return v < -none and 1 or 0 end)
    r.flat = moment(r.nodes, r.weights, function(v) return math.abs(v) <= none and 1 or 0 end)
    r.outliers = resolved(r, 1e-3)
    return spectrum_record(r)
  end

  define("probe.spectrum",
    "probe.spectrum(H, {steps = 80, starts = 4, seed = 0, kind = \"hessian\", only =, journal =}) -> record",
    "How many directions are flat, how many bend down, how far do the few sharp ones stand out? The density of the "
    .. "Hessian's eigenvalues by stochastic Lanczos quadrature with full re-orthogonalisation (Ghorbani, Krishnan, "
    .. "Xiao 2019, arXiv:1901.10159). Print it, or plot.spectrum(r).\n"
    .. "  steps: of each start; starts: random vectors. Cost: each step is one product over all data, of about a "
    .. "gradient. steps vectors are held in memory\n"
    .. "  H, kind, only, journal: as in probe.eigenvalues\n"
    .. "nodes, weights and residuals (lists for each start) are the result: f's mean over all eigenvalues is "
    .. "Σ weight f(node). With them square (of Frobenius' norm) and its standard error over starts, and trace and "
    .. "trace_error: from three starts on the sharp directions that the first has found (sharp: how many) are "
    .. "taken out "
    .. "of the others', which leaves less to chance (as in Hutch++, at no product more, but steps / 4 vectors in "
    .. "memory), and trace_error is the most that chance does, sqrt(2 / (starts - 1)) times the Frobenius norm of what "
    .. "is left; "
    .. "trace_plain is that of the weights alone, whose error for random signs is known, sqrt(2 (|H|^2 - |diag H|^2) / "
    .. "starts): with few sharp directions it is large; low "
    .. "and high, "
    .. "the extreme nodes; flat, the share of eigenvalues within 1e-4 of the largest of 0, and negative, of those "
    .. "below that; "
    .. "outliers, eigenvalues found one by one (residual "
    .. "below 1e-3 of the largest, in at least half the starts); r:density({points = 1000, sigma =, low =, high "
    .. "=}) -> x, y, "
    .. "sigma, the smoothed density, whose integral is 1.\n"
    .. "How to read it: a peak at zero that holds most of the mass, and separate spikes to its right, about one "
    .. "for each "
    .. "class but one. Where it misleads: weights of single eigenvalues are noisy (count outliers, not their "
    .. "mass); what "
    .. "lies near zero is smoothed over sigma and over the steps; equal eigenvalues are one node; a small share of "
    .. "data "
    .. "has a spectrum of its own.",
    "local h = tensor.eye(4) * tensor { 5, 1, 1, 0 }\nlocal r = probe.spectrum(h, { steps = 4 })\n"
    .. "print((\"%.2f %.2f\"):format(r.high, math.abs(r.low)))\n-- > 5.00 0.00", told(spectrum))
end
