-- SPDX-License-Identifier: Apache-2.0
-- The Lanczos process with full re-orthogonalisation (Paige 1972 says why it is needed: without it, converged
-- eigenvalues come again as ghosts and every index behind them is wrong). The basis is one tensor [rows, n], so that a
-- vector is made orthogonal to all others by two matrix products, done twice; coefficients are numbers in f64. Thick
-- restarts (Wu, Simon 2000) keep the basis short where many products are needed.
return function(core)
  local operator = require "probe.operator"(core)
  local lanczos = {}

  local BLOCK = 65536 -- columns of the basis that a restart turns at a time
  local CHECK = 5 -- products between two looks at what has converged

  -- ---- basis ----

  local Basis = {}
  Basis.__index = Basis

  -- Memory for `rows` vectors, checked before, with `more` that will lie beside them.
  function lanczos.basis(what, op, rows, option, more)
    operator.fits(what, op.n, op.dtype, rows, 8 + (more or 0), option)
    return setmetatable({ rows = rows, n = op.n, q = tensor.zeros({ rows, op.n }, { dtype = op.dtype }) }, Basis)
  end

  function Basis:first(k) return self.q[{ { 1, k }, {} }] end
  function Basis:set(k, v) self.q[k]:copy_(v) end

  -- w less its parts along the first k vectors. Twice is enough (Kahan; Giraud, Langou 2002).
  function Basis:orthogonal(k, w)
    if k == 0 then return w end
    local q = self:first(k)
    for _ = 1, 2 do w = w - q:matmul(w):matmul(q) end
    return w
  end

  -- Rows of coefficients [k, m] times the first m vectors, in place of the first k, or as a tensor of their own.
  function Basis:turn(s, own)
    local shape = s.shape
    local out = own and tensor.zeros({ shape[1], self.n }, { dtype = self.q.dtype }) or self.q
    s = s:to(self.q.dtype)
    for at = 1, self.n, BLOCK do
      local columns = { at, math.min(at + BLOCK - 1, self.n) }
      out[{ { 1, shape[1] }, columns }]:copy_(s:matmul(self.q[{ { 1, shape[2] }, columns }]))
    end
    return out
  end

  -- ---- the process ----

  lanczos.smallest = { f32 = 1e-6, f64 = 1e-13 } -- a remainder of this share of the operator's size is rounding

  local function unit(v)
    local size = v:norm()
    return v / size, size
  end

  -- A random unit vector that is orthogonal to the first k; nil where there is no room.
  local function fresh(op, basis, k, seed)
    if k >= op.n then return nil end
    for try = 1, 8 do
      local v = basis:orthogonal(k, (unit(operator.signs(op, seed, 100000 + 8 * k + try))))
      local q, size = unit(v)
      if size > 1e-3 / math.sqrt(op.n) then return (unit(basis:orthogonal(k, q))) end
    end
  end

  -- From k vectors to m, beginning with q; t receives the projected matrix (t[i][j], both halves). When what is spanned
  -- is invariant, `go_on` continues with a random vector, as if of another run; else it ends there. Returns how many
  -- vectors there are, the next one (nil: there is none) and its coefficient, which is 0 at such an end. o.keep, where
  -- there is one, is called between two products with how many vectors there are, the next one and the operator's size.
  function lanczos.grow(op, basis, t, k, m, q, o)
    local size = o.size or 0
    for j = k + 1, m do
      basis:set(j, q)
      local w = op.apply(q)
      o.products = o.products + 1
      if o.draw then o.draw(o.products) end
      t[j] = t[j] or {}
      t[j][j] = w:dot(q)
      size = math.max(size, w:norm())
      w = basis:orthogonal(j, w)
      local beta
      q, beta = unit(w)
      if not (beta == beta and beta < math.huge) then
        error(o.what .. ": the operator gave NaN or infinity", 0)
      end
      if beta <= size * lanczos.smallest[op.dtype] or j == op.n then
        q, beta = o.go_on and fresh(op, basis, j, o.seed) or nil, 0.0
        if not q then return j, nil, 0.0, size end
      end
      if j == m then return j, q, beta, size end
      t[j + 1] = t[j + 1] or {}
      t[j][j + 1], t[j + 1][j] = beta, beta
      if o.keep then o.keep(j, q, size) end
    end
  end

  -- What a journal keeps of a process with k vectors, and back.
  function lanczos.state(basis, t, k, q, size) return { basis = basis:first(k), t = t, k = k, q = q, size = size } end

  function lanczos.restore(basis, state)
    basis:first(state.k):copy_(state.basis)
    return state.t, state.k, state.q, state.size
  end

  -- Eigenvalues (ascending, a list) and eigenvectors (a tensor, in columns) of the projected matrix of k vectors.
  function lanczos.solve(t, k)
    local rows = {}
    for i = 1, k do
      rows[i] = {}
      for j = 1, k do rows[i][j] = t[i] and t[i][j] or 0.0 end
    end
    local values, vectors = tensor(rows, { dtype = "f64" }):eigh()
    return values:totable(), vectors
  end

  -- ---- a few eigenpairs ----

  -- Numbers of `values` (ascending) in the order that `which` wants them.
  local orders = {
    largest = function(v) return function(a, b) return v[a] > v[b] end end,
    smallest = function(v) return function(a, b) return v[a] < v[b] end end,
    magnitude = function(v)
      return function(a, b)
        local x, y = math.abs(v[a]), math.abs(v[b])
        if x ~= y then return x > y end
        return v[a] > v[b]
      end
    end,
  }
  lanczos.orders = orders

  local function ordered(values, which)
    local list = {}
    for i = 1, #values do list[i] = i end
    table.sort(list, orders[which](values))
    return list
  end

  -- The rows list[1] … list[last] of the transposed vectors: coefficients of Ritz vectors.
  local function coefficients(vectors, list, last)
    local rows = {}
    for i = 1, last do rows[#rows + 1] = vectors[{ {}, list[i] }] end
    return tensor.stack(rows, 1)
  end

  -- o: what, top, which, tolerance (of a residual, relative to the largest eigenvalue met), products (at most),
  -- rows (of the basis), seed, vectors, draw, start, loop (of a journal). Returns {values, residuals, converged,
  -- products, restarts, vectors [top, n]}.
  function lanczos.eigenpairs(op, o)
    local rows = math.min(op.n, o.rows)
    local basis = lanczos.basis(o.what, op, rows, "basis", o.vectors and math.min(o.top, op.n))
    local run = { what = o.what, products = 0, seed = o.seed, go_on = true, draw = o.draw }
    local t, m, restarts, size, beta, last_of, order, values, vectors = {}, 0, 0, 0, 0.0, nil, nil, nil, nil
    local q, goal = unit(o.start or operator.signs(op, o.seed, 0)), nil
    local top = math.min(o.top, op.n)
    local before = o.loop and o.loop.state
    if before then
      t, m, q, size = lanczos.restore(basis, before)
      goal, restarts, run.products = before.goal, before.restarts, before.products
    end
    function run.keep(k, next_, size_now)
      if not o.loop then return end
      o.loop.keep(function()
        local s = lanczos.state(basis, t, k, next_, size_now)
        s.goal, s.restarts, s.products = goal, restarts, run.products
        return s
      end)
    end

    -- What is known with m vectors.
    local function state()
      values, vectors = lanczos.solve(t, m)
      last_of, order = vectors[m]:totable(), ordered(values, o.which)
      local out = { values = {}, residuals = {}, products = run.products, restarts = restarts, converged = 0 }
      local largest = 0
      for i = 1, m do largest = math.max(largest, math.abs(values[i])) end
      for i = 1, math.min(top, m) do
        out.values[i], out.residuals[i] = values[order[i]], math.abs(beta * last_of[order[i]])
        if out.residuals[i] <= o.tolerance * largest then out.converged = out.converged + 1 end
      end
      return out
    end

    -- A basis of Ritz vectors, some more than are wanted, nearest first: what they hold need not be found again.
    local function restart()
      m = math.min(top + (m - top) // 2, m - 2)
      basis:turn(coefficients(vectors, order, m))
      t = {}
      for i = 1, m do t[i] = { [i] = values[order[i]] } end
      t[m + 1] = {}
      for i = 1, m do
        local b = beta * last_of[order[i]]
        t[i][m + 1], t[m + 1][i] = b, b
      end
      restarts = restarts + 1
    end

    while true do
      goal = goal or math.min(rows, m == 0 and top + CHECK or m + CHECK, m + o.products - run.products)
      run.size = size
      m, q, beta, size = lanczos.grow(op, basis, t, m, goal, q, run)
      goal = nil
      local out = state()
      -- At the end of an invariant space equal eigenvalues may be missing: the search goes on beyond it.
      local found = out.converged == top and (beta > 0 or m == rows)
      if found or q == nil or run.products >= o.products then
        if o.vectors then out.vectors = basis:turn(coefficients(vectors, order, #out.values), true) end
        return out
      end
      if m < rows then
        t[m + 1] = {}
        t[m][m + 1], t[m + 1][m] = beta, beta
      else
        restart()
      end
    end
  end

  return lanczos
end
