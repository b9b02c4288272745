-- SPDX-License-Identifier: Apache-2.0
-- Minima of functions of one number: golden section, and Brent's method (R. P. Brent 1973, Algorithms
-- for minimization without derivatives, ch. 5), which goes to the minimum of a parabola through three
-- points where that can be trusted, and by golden section where it cannot.
return function(define, check, core)
  local expect = require "expect"(core.kind)
  local golden_part = (3 - math.sqrt(5)) / 2

  local function prepared(name, f, a, b, o)
    check(name, o, { "tol", "evals" })
    if not expect.fits(f, "a function") then
      error(name .. ": expected a function of one number, got " .. core.kind(f), 3)
    elseif type(a) ~= "number" or type(b) ~= "number" or a >= b or a ~= a or b ~= b then
      error(name .. ": expected an interval a < b", 3)
    end
    local calls = 0
    return function(x)
      calls = calls + 1
      local v = f(x)
      if type(v) ~= "number" then error(name .. ": the function gave a " .. core.kind(v) .. ", not a number", 3) end
      return v == v and v or math.huge -- NaN is worse than anything
    end, o and o.tol or 1e-6, o and o.evals or 200, function() return calls end
  end

  local function golden(f, a, b, o)
    local evaluate, tol, most, calls = prepared("search.golden", f, a, b, o)
    local x, y = a + golden_part * (b - a), b - golden_part * (b - a)
    local fx, fy = evaluate(x), evaluate(y)
    while b - a > tol and calls() < most do
      if fx <= fy then
        b, y, fy = y, x, fx
        x = a + golden_part * (b - a)
        fx = evaluate(x)
      else
        a, x, fx = x, y, fy
        y = b - golden_part * (b - a)
        fy = evaluate(y)
      end
    end
    if fx <= fy then return x, fx, calls() end
    return y, fy, calls()
  end

  define("search.golden", "search.golden(f, a, b, {tol = 1e-6, evals = 200}) -> x, value, evaluations",
    "The minimum of f in [a, b] by golden section: the interval shrinks by 0.618 with each evaluation until it is "
    .. "shorter than tol. Sure for one valley; of several it finds one.",
    "local x, v = search.golden(function(t) return (t - 0.3) ^ 2 end, 0, 1)\nprint(math.abs(x - 0.3) < 1e-6)\n-- "
      .. "> true",
    golden)

  local function brent(f, a, b, o)
    local evaluate, tol, most, calls = prepared("search.brent", f, a, b, o)
    local x = a + golden_part * (b - a)
    local w, v, fx = x, x, evaluate(x)
    local fw, fv, step, before = fx, fx, 0.0, 0.0
    while calls() < most do
      local middle = (a + b) / 2
      local near = 1.5e-8 * math.abs(x) + tol / 3
      if math.abs(x - middle) <= 2 * near - (b - a) / 2 then break end
      local p, q, r = 0.0, 0.0, 0.0
      if math.abs(before) > near then -- a parabola through v, w, x
        r = (x - w) * (fx - fv)
        q = (x - v) * (fx - fw)
        p = (x - v) * q - (x - w) * r
        q = 2 * (q - r)
        if q > 0 then p = -p else q = -q end
        r, before = before, step
      end
      if math.abs(p) < math.abs(q * r / 2) and p > q * (a - x) and p < q * (b - x) then
        step = p / q
        local u = x + step
        if u - a < 2 * near or b - u < 2 * near then step = x < middle and near or -near end
      else
        before = x < middle and b - x or a - x
        step = golden_part * before
      end
      local u = math.abs(step) >= near and x + step or x + (step > 0 and near or -near)
      local fu = evaluate(u)
      if fu <= fx then
        if u < x then b = x else a = x end
        v, fv, w, fw, x, fx = w, fw, x, fx, u, fu
      else
        if u < x then a = u else b = u end
        if fu <= fw or w == x then
          v, fv, w, fw = w, fw, u, fu
        elseif fu <= fv or v == x or v == w then
          v, fv = u, fu
        end
      end
    end
    return x, fx, calls()
  end

  define("search.brent", "search.brent(f, a, b, {tol = 1e-6, evals = 200}) -> x, value, evaluations",
    "The minimum of f in [a, b] by Brent's method: parabolas where they can be trusted, golden section elsewhere. "
    .. "Smooth functions take some ten evaluations. The ends themselves are never evaluated.",
    "local x, v, n = search.brent(function(t) return (t - 0.3) ^ 4 + t ^ 2 end, -1, 1)\nprint(n < 30)\n-- > "
      .. "true", brent)
end
