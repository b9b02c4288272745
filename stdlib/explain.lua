-- SPDX-License-Identifier: Apache-2.0
-- merge.explain: what a merge would do to every tensor, before it runs. The plan knows all of it
-- (stdlib/plan.lua); this is its door for people.

local Explanation = {}
Explanation.__index = Explanation
Explanation.__name = "explanation"

function Explanation:__tostring()
  return self.plan:show(true, self.names)
end

return function(define, check)
  define("merge.explain", "merge.explain { m, names =, dtype =, time = false } -> explanation",
    "What a merge would do, from headers alone, and why. Printed, it is the plan (passes, bytes read and written, peak "
    .. "memory, every parameter with its value and origin: given, default, or the by.… that it came from), then every "
    .. "tensor under the method and the values that make it, with its passes and cost. Its field tensors is a list of "
    .. "{name, dtype, shape, method, note, parameters, from, copied, passes, reads, writes, workspace, held, more, "
    .. "with}, parameters a list of {node, name, model, value, origin}; its field plan is m:plan(). `tarn plan` shows "
    .. "the same of a script, `tarn merge --plan` of a configuration.\n"
    .. "  names: only tensors in whose name this regular expression is found\n"
    .. "  dtype: of the output, as in m:save\n"
    .. "  time: true, or the path of the output: an estimate from some two seconds of measuring, as in m:plan",
    'local m = merge.linear { a, b, weight = { by.depth { 0.5, 1 }, 1 } }\n'
    .. 'local t = merge.explain({ m, names = "fc3.bias" }).tensors[1]\n'
    .. 'print(t.method, t.parameters[1].name, t.parameters[1].value, t.parameters[1].origin)\n'
    .. '-- > linear\tweight\t1.0\tby.depth',
    function(o)
      if type(o) ~= "table" or type(o[1]) ~= "userdata" then
        error("merge.explain: expected { model, names =, dtype =, time = }", 2)
      end
      check("merge.explain", o, { "names", "dtype", "time" }, true)
      local m, names = o[1], nil
      if o.names then
        names = {}
        for _, name in ipairs(m:names(o.names)) do names[name] = true end
      end
      local plan = m:plan { dtype = o.dtype, time = o.time }
      return setmetatable({ plan = plan, names = names, tensors = plan:explain(names) }, Explanation)
    end)
end
