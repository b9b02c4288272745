-- SPDX-License-Identifier: Apache-2.0
-- Pseudo-inverses, least squares, ranks and determinants, from the factorisations that are rows: of matrices and of
-- batches of them [.., m, n]. Names and defaults as in torch.linalg.
return function(define, check, fail, kind)
  local axes = require "tensor.axes" (check, fail, kind)
  local nan = 0 / 0

  -- The singular value decomposition, and which singular values count: those above rtol times the largest, and atol.
  local function decomposed(name, t, options)
    check(name, options, { "rtol", "atol" })
    axes.need(name, t, 2)
    if t:numel() == 0 then fail(name .. ": the matrix has no elements") end
    local o = options or {}
    local m, n = t.shape[t.rank - 1], t.shape[t.rank]
    local U, S, Vh = t:svd()
    local atol = axes.number(name, "atol", o.atol)
    local rtol = axes.number(name, "rtol", o.rtol) or atol and 0
      or math.max(m, n) * (t.dtype == "f64" and 2 ^ -52 or 2 ^ -23)
    local largest = S[axes.places(S.rank, 1, 1)]
    return U, S, Vh, S:gt(tensor.maximum(largest * rtol, atol or 0))
  end

  -- V diag(1 / S) of those that count, and U^T.
  local function inverse(name, t, options)
    local U, S, Vh, keep = decomposed(name, t, options)
    local over = tensor.where(keep, 1 / tensor.where(keep, S, 1), 0)
    return Vh:transpose(-2, -1) * over:unsqueeze(-2), U:transpose(-2, -1)
  end

  local CUT = "Singular values up to rtol times the largest (max(m, n) times the machine epsilon when left out; 0 if "
    .. "atol is given), or up to atol, count as zero. "

  define("tensor:pinv", "t:pinv({rtol =, atol =}) -> tensor",
    "The pseudo-inverse (Moore and Penrose). " .. CUT .. "Its derivative is that of t:svd(): NaN where two singular "
    .. "values are equal to rounding. Tier B.",
    "print(tensor { {2, 0}, {0, 0}, {0, 4} }:pinv())\n-- > f32[2, 3]\n-- > [[0.5000, 0.0000, 0.0000],\n"
    .. "-- >  [0.0000, 0.0000, 0.2500]]",
    function(t, options)
      local V, Uh = inverse("tensor:pinv", t, options)
      return V:matmul(Uh)
    end)

  define("tensor:lstsq", "a:lstsq(b, {rtol =, atol =}) -> x",
    "The x that makes the norm of a x - b least, for a of any rank; of several the one of least norm. b is a vector, "
    .. "a matrix, or a batch like a. " .. CUT .. "Its derivative is that of t:svd(): NaN where two singular values "
    .. "are equal to rounding. Tier B.",
    "local a = tensor { {1, 0}, {1, 1}, {1, 2} }\nprint(a:lstsq(tensor { 1, 3, 5 }):round())\n-- > f32[2]\n"
    .. "-- > [1., 2.]",
    function(a, b, options)
      local name = "tensor:lstsq"
      axes.need(name, a, 2)
      axes.need(name, b, 1)
      local vector, m = b.rank == 1, a.shape[a.rank - 1]
      local rows = b.shape[math.max(b.rank - 1, 1)]
      if rows ~= m then fail(("%s: a has %d rows, b %d"):format(name, m, rows)) end
      local V, Uh = inverse(name, a, options)
      local x = V:matmul(Uh:matmul(vector and b:unsqueeze(2) or b))
      return vector and x:squeeze(-1) or x
    end)

  define("tensor:matrix_rank", "t:matrix_rank({rtol =, atol =}) -> integer or tensor",
    "How many singular values are not zero. " .. CUT .. "Tier B.",
    "print(tensor { {1, 2}, {2, 4} }:matrix_rank())\n-- > 1",
    function(t, options)
      local _, _, _, keep = decomposed("tensor:matrix_rank", t, options)
      return tensor.to(keep:sum(-1), "i64")
    end)

  -- t = Q R: the diagonal of R, which is not negative, and the determinant of Q. Q is a rotation, or as far from the
  -- nearest as a reflection is, which moves one direction from 1 to -1.
  local function factors(name, t)
    axes.need(name, t, 2)
    local m, n = t.shape[t.rank - 1], t.shape[t.rank]
    if m ~= n then fail(("%s: expected square matrices, got %d by %d"):format(name, m, n)) end
    if t:numel() == 0 then fail(name .. ": the matrix has no elements") end
    local Q, R = t:qr()
    local far = Q - Q:polar { route = "rotation" }
    return R:diagonal(0, -2, -1), tensor.where(tensor.gt((far * far):sum { -2, -1 }, 2), -1, 1)
  end

  local function signed_log(name, t)
    local d, turn = factors(name, t)
    return turn * tensor.sign(d:min(-1)), d:log():sum(-1)
  end

  local SLOPE = "Differentiable where t is not singular (there a gradient is an error). By a QR factorisation. Tier B."

  define("tensor:det", "t:det() -> number or tensor",
    "The determinant; t:slogdet() does not leave the range of numbers. " .. SLOPE,
    "print(string.format(\"%.3f\", tensor { {1, 2}, {3, 4} }:det()))\n-- > -2.000",
    function(t)
      local d, turn = factors("tensor:det", t)
      return d:prod(-1) * turn
    end)

  define("tensor:slogdet", "t:slogdet() -> sign, logabsdet",
    "The sign of the determinant (-1, 0 or 1) and the logarithm of its magnitude. " .. SLOPE,
    "local sign, log = tensor { {0, 1}, {1, 0} }:slogdet()\nprint(sign, string.format(\"%.3f\", math.abs(log)))\n"
    .. "-- > -1.0\t0.000",
    function(t) return signed_log("tensor:slogdet", t) end)

  define("tensor:logdet", "t:logdet() -> number or tensor",
    "The logarithm of the determinant: NaN where that is negative, -infinity where it is zero. " .. SLOPE
    .. " Of a positive definite matrix 2 * t:cholesky():diagonal():log():sum() is quicker.",
    "print(string.format(\"%.4f\", (tensor.eye(3) * 2):logdet()))\n-- > 2.0794",
    function(t)
      local sign, log = signed_log("tensor:logdet", t)
      return tensor.where(tensor.lt(sign, 0), nan, log)
    end)
end
