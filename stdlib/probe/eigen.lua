-- SPDX-License-Identifier: Apache-2.0
-- Extreme eigenvalues of a loss's curvature, the matrix itself where it is small, and what lies in the space of the
-- top eigenvectors.
return function(define, check, core, told)
  local expect = require "expect"(core.kind)
  local operator = require "probe.operator"(core)
  local lanczos = require "probe.lanczos"(core)
  local progress = require "probe.progress"(core)
  local journal = require "probe.journal"(core)
  local flat_of = require "probe.flat"(core)
  local record = require "probe.record"

  local function whole(what, o, name, least, default)
    local v = o[name]
    if v == nil then return default end
    if math.type(v) ~= "integer" or v < least then
      error(("%s: %s is a whole number, at least %d, got %s"):format(what, name, least, tostring(v)), 0)
    end
    return v
  end

  -- ---- eigenvalues ----

  local eigenvalues_record = record.kind("eigenvalues", {
    rows = function(r)
      local rows = {}
      for i, v in ipairs(r.values) do rows[i] = { i, v, r.residuals[i] } end
      return { "index", "value", "residual" }, rows
    end,
    text = function(r)
      local lines = {}
      for i, v in ipairs(r.values) do
        lines[i] = { ("%d"):format(i), ("%.6g"):format(v), ("%.1e"):format(r.residuals[i]) }
      end
      local missing = #r.values - r.converged
      return ("%d %s eigenvalues of the %s (%d parameters, %d products)%s\n%s"):format(#r.values, r.which, r.of, r.n,
        r.products, missing > 0 and ("; %d not converged to %g"):format(missing, r.tolerance) or "",
        record.columns({ "", "eigenvalue", "residual" }, lines))
    end,
    plot = function(r, o)
      return plot.scatter(record.with({ { r.of, r.values }, title = ("%s eigenvalues"):format(r.which),
        xlabel = "index", ylabel = "eigenvalue" }, o))
    end,
  })

  local function eigenvalues(H, o)
    local what = "probe.eigenvalues"
    check(what, o, { "top", "which", "tolerance", "products", "basis", "vectors", "kind", "only", "seed", "start",
      "journal" })
    expect(what, o, { start = "a model, a tensor or a table of tensors" })
    o = o or {}
    local op = operator.of(what, H, o)
    local top, which = whole(what, o, "top", 1, 10), o.which or "largest"
    if not lanczos.orders[which] then
      error(('%s: which = %q; expected "largest", "smallest" or "magnitude"'):format(what, tostring(which)), 0)
    end
    local rows = whole(what, o, "basis", 4, math.max(2 * top + 10, 40))
    if rows < math.min(top + 3, op.n) then
      error(("%s: basis = %d; %d eigenvalues need at least %d vectors"):format(what, rows, top, top + 3), 0)
    end
    local most = whole(what, o, "products", 1, 1000)
    local wanted = math.min(top, op.n)
    if most < wanted then
      error(("%s: %d eigenvalues need at least as many products; products = %d"):format(what, wanted, most), 0)
    end
    local draw <close> = progress(what, nil, "products")
    local j <close> = journal.open(what, o, { H }, draw)
    local how = { what = what, top = top, which = which, tolerance = o.tolerance or 1e-4, products = most, rows = rows,
      seed = whole(what, o, "seed", 0, 0), vectors = o.vectors, draw = draw, start = o.start and op.pack(o.start) }
    local found = j.loop({ "pairs" }, function(loop)
      how.loop = loop
      return lanczos.eigenpairs(op, how)
    end)
    local r = { of = op.title, which = which, n = op.n, values = found.values, residuals = found.residuals,
      converged = found.converged, tolerance = o.tolerance or 1e-4, products = found.products,
      restarts = found.restarts, seed = o.seed or 0 }
    if found.vectors then
      r.vectors = {}
      for i = 1, #found.values do r.vectors[i] = op.unpack(found.vectors[i]:clone()) end
    end
    return eigenvalues_record(r)
  end

  -- ---- the matrix ----

  local function matrix(H, o)
    local what = "probe.matrix"
    check(what, o, { "kind", "only", "journal" })
    local op = operator.of(what, H, o)
    operator.fits(what, op.n, op.dtype, op.n, 8, "with only, n")
    local draw <close> = progress(what, op.n, "columns")
    local j <close> = journal.open(what, o, { H }, draw)
    return j.loop({ "columns" }, function(loop)
      local m = tensor.zeros({ op.n, op.n }, { dtype = op.dtype })
      for k = journal.restored(loop, m) + 1, op.n do
        local e = tensor.zeros({ op.n }, { dtype = op.dtype })
        e[{ { k, k } }]:fill_(1)
        m[k]:copy_(op.apply(e))
        draw(k)
        loop.keep(function() return { done = k, rows = m[{ { 1, k }, {} }] } end)
      end
      return m
    end)
  end

  -- ---- spaces of eigenvectors ----

  local function space_of(what, e)
    if type(e) ~= "table" or type(rawget(e, "vectors")) ~= "table" then
      error(what .. ": expected what probe.eigenvalues(H, { vectors = true }) returned", 0)
    end
    local rows = {}
    for i, v in ipairs(e.vectors) do rows[i] = flat_of(what, v).pack(v) end
    return tensor.stack(rows, 1)
  end

  local function share(e, v, o)
    local what = "probe.share_in_top"
    check(what, o, { "top" })
    local basis = space_of(what, e)
    local k = whole(what, o or {}, "top", 1, basis.shape[1])
    if k > basis.shape[1] then error(("%s: top = %d of %d eigenvectors"):format(what, k, basis.shape[1]), 0) end
    local like = e.vectors[1]
    expect.one(what, "the vector", v, core.kind(like) == "tensor" and "a tensor" or "a model or a table of tensors")
    local flat = flat_of(what, like).pack(v)
    local inside = basis[{ { 1, k }, {} }]:to "f64":matmul(flat:to "f64")
    return inside:dot(inside) / flat:dot(flat), k / e.n
  end

  local function overlap(a, b)
    local what = "probe.overlap"
    local u, v = space_of(what, a), space_of(what, b)
    if u.shape[2] ~= v.shape[2] then
      error(("%s: vectors of %d and of %d numbers"):format(what, u.shape[2], v.shape[2]), 0)
    end
    local g = u:to "f64":matmul(v:to "f64":t())
    return (g * g):sum() / math.min(u.shape[1], v.shape[1])
  end

  local made = "local h = tensor { {3, 0, 0}, {0, 2, 0}, {0, 0, -1} }\n"

  define("probe.eigenvalues",
    "probe.eigenvalues(H, {top = 10, which = \"largest\", kind = \"hessian\", only =, tolerance = 1e-4, products = "
    .. "1000, "
    .. "basis =, vectors = false, seed = 0, start =, journal =}) -> record",
    "How sharply does the loss bend, and along how many directions? The extreme eigenvalues of its Hessian at a "
    .. "point, by the Lanczos process with full re-orthogonalisation and thick restarts (Wu, Simon 2000). values, "
    .. "and residuals |H v - λ v| as the process estimates them: an eigenvalue lies within its residual, mostly "
    .. "within its square.\n"
    .. "  H: net:loss(data):linearize(theta), whose products go over all data in chunks; a symmetric matrix; or "
    .. "{ apply = function(v) -> H v, like = model or tensor }, such as a preconditioned Hessian\n"
    .. "  kind: \"hessian\", \"ggn\" (the Gauss-Newton matrix) or \"residual\" (the first less the second)\n"
    .. "  only: the block of these parameters, as in m:only\n"
    .. "  which: \"largest\", \"smallest\" (the most negative first) or \"magnitude\"\n"
    .. "  tolerance: of the residuals, relative to the largest eigenvalue; products: the most that are made, after "
    .. "which "
    .. "`converged` says how many are good\n"
    .. "  basis: vectors in memory, max(2 top + 10, 40) where not said; more vectors need fewer products\n"
    .. "  vectors: also eigenvectors, as models of mass 0 of norm 1 (r.vectors[1] belongs to r.values[1])\n"
    .. "  journal: a file that keeps what is done; a run that was stopped goes on where it ended\n"
    .. "How to read it: C - 1 values that stand out are usual for C classes (Sagun 2017, arXiv:1706.04454; Papyan "
    .. "2018, arXiv:1811.07062); negative ones say that the point is no minimum. Cost: some 40 to 100 products, "
    .. "each about "
    .. "a gradient. Where it misleads: of equal eigenvalues one copy is found first, others late; values depend on "
    .. "the data, the loss and weight decay, and change under rescalings of a ReLU network that change no output. "
    .. "Batch norms count in eval mode unless the loss says otherwise.",
    made .. "print((\"%.3f\"):format(probe.eigenvalues(h, { top = 2 }).values[1]))\n-- > 3.000",
    told(eigenvalues))

  define("probe.matrix", "probe.matrix(H, {kind = \"hessian\", only =, journal =}) -> tensor",
    "What is the curvature between any two parameters? All of the Hessian (or what kind says) of a small network, or "
    .. "of one layer of it (only), whose order is that of m:names() with each tensor in row-major order. Refused "
    .. "where the matrix is larger than memory. H, kind, only and journal as in probe.eigenvalues.\n"
    .. "Reading it: plot.matrix { m, written = false } shows a block for each pair of tensors. Cost: as many "
    .. "products as there are parameters. Where it misleads: single entries depend on the scale of the layers, "
    .. "eigenvalues and blocks say more.",
    "local net = nn.mlp { 2, 2 }\nlocal f = net:loss { x = tensor { {1, 2} }, y = tensor({ 0 }, { dtype = \"i64\" "
    .. "}) }\n"
    .. "print(probe.matrix(f:linearize(net:init { seed = 1 })).shape)\n-- > [6, 6]", told(matrix))

  define("probe.share_in_top", "probe.share_in_top(eigenvalues, v, {top =}) -> share, expected",
    "How much of a vector (a gradient, a step of training, a difference of models) lies in the space of the top "
    .. "eigenvectors? |V' v|² / |v|² for what probe.eigenvalues returned with vectors, and k / n, the share of a "
    .. "random vector. Gradients of trained networks lie in it by far the most (Gur-Ari, Roberts, Dyer 2018, "
    .. "arXiv:1812.04754); the loss falls along the rest all the same.\n"
    .. "Reading it: read share against expected, which is all that chance gives. Cost: no pass over data, k inner "
    .. "products. Where it misleads: of a mini-batch's gradient the share is mostly that of its noise.",
    made .. "local e = probe.eigenvalues(h, { top = 1, vectors = true })\n"
    .. "print((\"%.3f %.3f\"):format(probe.share_in_top(e, tensor { 2, 1, 0 })))\n-- > 0.800 0.333",
    told(share))

  define("probe.overlap", "probe.overlap(eigenvalues, eigenvalues) -> share",
    "How far do two spaces of eigenvectors agree (of two times, two models, two data sets)? |U' V|² / k, the squared "
    .. "Frobenius norm over the smaller number of vectors; 1 where one holds the other, k / n for random spaces.\n"
    .. "Reading it: near 1 the sharp directions stay; near k / n they are others. Cost: no pass over data. Where it "
    .. "misleads: vectors that have not converged (see residuals) and eigenvalues that lie close lower it; take k "
    .. "at a gap.",
    made .. "local e = probe.eigenvalues(h, { top = 2, vectors = true })\n"
    .. "print((\"%.2f\"):format(probe.overlap(e, e)))\n"
    .. "-- > 1.00", told(overlap))

  return whole
end
