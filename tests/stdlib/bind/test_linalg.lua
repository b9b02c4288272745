-- SPDX-License-Identifier: Apache-2.0
-- Linear algebra as scripts see it: identities, shapes, batches, planned tensors, what is refused.
local check = require "check"
local near, raises, equal = check.near, check.raises, check.equal

local function off(a, b) return tensor.norm(a - b) end

local a = tensor.randn({ 7, 4 }, 1, { dtype = "f64" })

-- ---- svd ----

local U, S, Vh, rest = a:svd()
equal({ tostring(U.shape), tostring(S.shape), tostring(Vh.shape), rest }, { "[7, 4]", "[4]", "[4, 4]", 0.0 })
near(off(U:matmul(S:reshape { 4, 1 } * Vh), a), 0, 1e-13, "U S Vh")
near(off(U:transpose(1, 2):matmul(U), tensor.eye(4, { dtype = "f64" })), 0, 1e-13, "U^T U")
for _, route in ipairs { "exact", "gram", "random" } do
  local u, s, vh, left = a:svd { rank = 2, route = route }
  near(off(s, S[{ { 1, 2 } }]), 0, route == "random" and 1e-3 or 1e-12, route .. ": values")
  near(left, off(u:matmul(s:reshape { 2, 1 } * vh), a), 1e-12, route .. ": residual")
  near(left, tensor.norm(S[{ { 3, 4 } }]), 1e-3, route .. ": Eckart-Young")
end
local one = tensor { 5 }:reshape { 1, 1 }
local u1, s1, v1 = one:svd()
equal({ u1[{ 1, 1 }], s1[1], v1[{ 1, 1 }] }, { 1.0, 5.0, 1.0 })
local ue, se, ve = tensor.zeros({ 0, 3 }):svd()
equal({ tostring(ue.shape), tostring(se.shape), tostring(ve.shape) }, { "[0, 0]", "[0]", "[0, 3]" })

-- A batch is its matrices.
local batch = tensor.randn({ 2, 3, 5, 6 }, 2)
local bu, bs, bv, br = batch:svd { rank = 3 }
equal({ tostring(bu.shape), tostring(bs.shape), tostring(bv.shape), tostring(br.shape) },
  { "[2, 3, 5, 3]", "[2, 3, 3]", "[2, 3, 3, 6]", "[2, 3]" })
local su, ss, _, sr = batch[{ 2, 3 }]:svd { rank = 3 }
equal(bu[{ 2, 3 }]:totable(), su:totable(), "U of a batch")
equal(bs[{ 2, 3 }]:totable(), ss:totable(), "S of a batch")
near(br[{ 2, 3 }], sr, 1e-6, "residual of a batch")  -- a number of f32, seen as f64

-- ---- the others ----

local g = a:transpose(1, 2):matmul(a)
local w, v = g:eigh()
near(off(v:matmul(w:reshape { 4, 1 } * v:transpose(1, 2)), g), 0, 1e-12, "V W V^T")
near(off(w:sort(1, { descending = true }), S * S), 0, 1e-12, "eigenvalues are squares")
local Q, R = a:qr()
near(off(Q:matmul(R), a), 0, 1e-13, "Q R")
equal(R[{ 3, 2 }], 0.0)
local L = g:cholesky()
near(off(L:matmul(L:transpose(1, 2)), g), 0, 1e-12, "L L^T")
local b = tensor.randn({ 4, 2 }, 3, { dtype = "f64" })
near(off(g:matmul(g:solve(b)), b), 0, 1e-11, "A X")
local c = b[{ {}, 1 }]
near(off(g:matmul(g:solve(c)), c), 0, 1e-11, "A x")
local sq = tensor.randn({ 6, 6 }, 4, { dtype = "f64" })
local T, Z = sq:schur()
near(off(Z:matmul(T):matmul(Z:transpose(1, 2)), sq), 0, 1e-12, "Z T Z^T")
equal(T[{ 5, 2 }], 0.0)

-- ---- polar and powers ----

local P = a:polar()
near(off(P, U:matmul(Vh)), 0, 1e-12, "U Vh")
near(off(a:polar { route = "iterate" }, P), 0, 1e-11, "iterated")
local q = sq:polar { route = "rotation" }
near(off(q:orthogonal_power(1), q), 0, 1e-12, "q^1")
local third = q:orthogonal_power(1 / 3)
near(off(third:matmul(third):matmul(third), q), 0, 1e-11, "q^(1/3)")

-- ---- a tensor of a file: the same bits, nothing computed before it is wanted ----

local path = string.format("%s/tarn-test-linalg-%d-%d.safetensors", os.getenv "TMPDIR" or "/tmp", os.time(),
  math.floor(os.clock() * 1e6))
model.new({ { "x", batch } }):save(path, { overwrite = true })
local m <close> = model.open(path)
os.remove(path)
local pu, ps, pv, pr = m.x:svd { rank = 3 }
assert(pu.planned and ps.planned)
equal(pu:totable(), bu:totable(), "planned U")
equal(ps:totable(), bs:totable(), "planned S")
equal(pv:totable(), bv:totable(), "planned Vh")
equal(pr:totable(), br:totable(), "planned residual")
equal(m.x:polar { route = "iterate" }:totable(), batch:polar { route = "iterate" }:totable(), "planned polar")

-- ---- what is refused ----

raises('route is "full"; expected "exact", "gram" or "random"', a.svd, a, { route = "full" })
raises("seed belongs to route", a.svd, a, { seed = 1 })
raises("rnak", a.svd, a, { rnak = 2 })
raises("rank 5 of a 7 by 4 matrix", a.svd, a, { rank = 5 })
raises("got rank 1", c.svd, c)
raises("square matrix, got 7 by 4", a.eigh, a)
raises("element [1, 2] of operand 1 is NaN", tensor.svd, tensor { { 1, 0 / 0 } })
raises("singular", tensor.solve, tensor.ones { 2, 2 }, tensor.ones(2))
raises("as many rows on the right", a.solve, g, tensor.ones(3))
raises("not positive definite", tensor.cholesky, tensor { { 1, 2 }, { 2, 1 } })
raises("determinant -1", tensor.orthogonal_power, tensor { { 1, 0 }, { 0, -1 } }, 0.5)
raises("not orthogonal", tensor.orthogonal_power, tensor { { 1, 1 }, { 0, 1 } }, 0.5)
raises("orthogonal_power is not differentiable", grad, function(t) return t:orthogonal_power(2):sum() end, tensor { { 1, 0 }, { 0, 1 } })
