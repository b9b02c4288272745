-- SPDX-License-Identifier: Apache-2.0
-- Assignment and transport for scripts (merge/align/assign.c, transport.c).
return function(define, check, core)
  define("align.assignment", "align.assignment(cost [, {maximise = false, start =}]) -> index, value, prices",
    "The linear assignment of least total cost (greatest, with maximise): each row of "
    .. "the matrix takes a column of its own. index[i] is the column of row i, from 1; where there are more rows "
    .. "than columns it is 0 for rows that are left out. value is the sum of the chosen costs in f64. Infinite "
    .. "costs forbid a pair (minus infinity with maximise). The result is exact and always the same. prices (of the "
    .. "columns, or of the rows where there are more) prove it: each row's choice has the least cost less price. As "
    .. "start for a similar matrix they make the next solution faster, never another in value. NaN, and forbidden "
    .. "pairs that leave no assignment, are errors. Shortest augmenting paths (Jonker and Volgenant 1987) over "
    .. "short lists of columns.",
    "local index, value = align.assignment(tensor { {4, 1, 3}, {2, 0, 5}, {3, 2, 2} })\n"
    .. "print(index[1], index[2], index[3], value)\n-- > 2\t1\t3\t5.0",
    function(cost, o)
      check("align.assignment", o, { "maximise", "start" })
      o = o or {}
      return core.assign(cost, o.maximise or false, o.start)
    end)

  local function masses(given, n) return given or tensor.full({ n }, 1 / n, { dtype = "f64" }) end

  define("align.transport", "align.transport(cost [, a, b [, {reg =}]]) -> plan, value",
    "Optimal transport: of all matrices of numbers >= 0 whose rows add up to a [n] and whose columns add up to "
    .. "b [m] the one of least total plan * cost, and that total. a and b are tensors of equal totals (else an "
    .. "error), 1 / n and 1 / m where they are left out; rows and columns without mass stay empty. Infinite costs "
    .. "forbid a pair. The plan is f64, exact, always the same, and has at most n + m - 1 entries that are not 0 "
    .. "(of equal masses and n = m: a permutation over n, by assignment; else by the network simplex). With reg it "
    .. "is the plan with entropy, tensor.sinkhorn(cost, {reg =, a =, b =}), which is differentiable and needs "
    .. "masses above 0.",
    "local plan, value = align.transport(tensor { {0, 1}, {1, 0} }, tensor { 0.5, 0.5 }, tensor { 0.25, 0.75 })\n"
    .. "print(plan[{ 1, 2 }], value)\n-- > 0.25\t0.25",
    function(cost, a, b, o)
      check("align.transport", o, { "reg" })
      if type(cost) ~= "userdata" or #cost.shape ~= 2 then error("align.transport: expected a matrix of costs", 3) end
      local n, m = cost.shape[1], cost.shape[2]
      a, b = masses(a, n), masses(b, m)
      if not o or not o.reg then return core.transport(cost, a, b) end
      local plan = tensor.sinkhorn(cost, { reg = o.reg, a = a, b = b, iterations = 10000 })
      return plan, tensor.where(plan:gt(0), plan * cost, 0):sum()
    end)
end
