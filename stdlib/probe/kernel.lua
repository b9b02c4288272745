-- SPDX-License-Identifier: Apache-2.0
-- The neural tangent kernel at a point, and how far it is from another's.
return function(define, check, core, told, whole)
  local examples = require "probe.examples"(core)
  local progress = require "probe.progress"(core)
  local journal = require "probe.journal"(core)
  local record = require "probe.record"

  local function inner(a, b) return (a * b):sum() end

  local kernel_record = record.kind("kernel", {
    text = function(r)
      return ("tangent kernel of %d examples%s, %d by %d: trace %.6g, Frobenius norm %.6g (%d parameters)"):format(r.n,
        r.sum and ", outputs summed" or (" and %d outputs"):format(r.outputs), r.size, r.size, r.trace, r.norm,
        r.parameters)
    end,
    rows = function(r)
      local rows, head = r.kernel:totable(), {}
      for k = 1, r.size do head[k] = ("%d"):format(k) end
      return head, rows
    end,
    plot = function(r, o)
      local p = { r.kernel, written = false }
      for key, v in pairs(o) do p[key] = v end
      return plot.matrix(p)
    end,
  })

  local function ntk(net, theta, data, o)
    local what = "probe.ntk"
    check(what, o, { "sum", "only", "journal" })
    o = o or {}
    if core.kind(data) == "tensor" then data = { x = data } end
    local draw <close> = progress(what, nil, "rows")
    local j <close> = journal.open(what, o, { net, theta, data }, draw)
    local made = j.loop({ "rows" }, function(loop)
      local rows, about = examples.jacobian(what, net, theta, data, { sum = o.sum, only = o.only, draw = draw,
        loop = loop })
      return { kernel = examples.gram(rows), about = about }
    end)
    local k, about = made.kernel, made.about
    return kernel_record { kernel = k, n = about.n, outputs = about.outputs, parameters = about.parameters,
      size = k.shape[1], sum = o.sum and true or false, trace = (k * tensor.eye(k.shape[1]):to "f64"):sum(),
      norm = math.sqrt(inner(k, k)) }
  end

  local function matrix_of(what, k, i)
    if type(k) == "table" and core.kind(rawget(k, "kernel")) == "tensor" then k = k.kernel end
    if core.kind(k) ~= "tensor" or #k.shape ~= 2 then
      error(("%s: argument %d is neither a kernel of probe.ntk nor a matrix"):format(what, i), 0)
    end
    return k:to "f64"
  end

  local function distance(a, b)
    local what = "probe.kernel_distance"
    local x, y = matrix_of(what, a, 1), matrix_of(what, b, 2)
    if x.shape[1] ~= y.shape[1] or x.shape[2] ~= y.shape[2] then
      error(("%s: kernels of %d and of %d rows"):format(what, x.shape[1], y.shape[1]), 0)
    end
    return 1 - inner(x, y) / math.sqrt(inner(x, x) * inner(y, y))
  end

  local made = "local net = nn.mlp { 2, 8, 3 }\nlocal x = tensor.normal({ 4, 2 }, 1)\n"

  define("probe.ntk", "probe.ntk(net, theta, data, {sum = false, only =, journal =}) -> record",
    "Which examples does a small step of training move together? The neural tangent kernel at theta, K = J J' with "
    .. "the Jacobian J of the outputs by the parameters. r.kernel is a tensor in f64 of examples times outputs "
    .. "rows, row = example * outputs + output (from 0), with trace and norm.\n"
    .. "  data: a data set, { x = } or a tensor\n"
    .. "  sum: Jacobians are added over the outputs first: one row for each example\n"
    .. "  only: by these parameters, as in m:only; journal: as in probe.eigenvalues\n"
    .. "Cost: one backward pass and one vector of all parameters in memory for each row, so take some dozens of "
    .. "examples; refused where they do not fit. Batch norms count in eval mode. How to read it: large entries off "
    .. "the "
    .. "diagonal are examples that are learned together; a kernel that stands still during training is the linear "
    .. "regime. Jacot et al. 2018, arXiv:1806.07572. Where it misleads: two networks with equal kernels may still "
    .. "compute different functions.",
    made .. "print(probe.ntk(net, net:init { seed = 1 }, x).kernel.shape)\n-- > [12, 12]", told(ntk))

  define("probe.kernel_distance", "probe.kernel_distance(a, b) -> number",
    "How far are two kernels (of two models, or of two times of one) apart on the same examples? 1 - <A, B> / (|A| "
    .. "|B|), 0 where one is a multiple of the other. Divided by the steps between, it is the kernel's velocity: "
    .. "high early in training, low after (Fort et al. 2020, arXiv:2010.15110). Of kernels of probe.ntk or any two "
    .. "matrices.\n"
    .. "Reading it: near 0 nothing but the scale has changed, as in the linear regime. Cost: none beside the "
    .. "kernels. Where it misleads: kernels of positive entries are near each other whatever they say; centre them, "
    .. "or compare with the distance of two random networks.",
    made .. "local a, b = probe.ntk(net, net:init { seed = 1 }, x), probe.ntk(net, net:init { seed = 2 }, x)\n"
    .. "print(math.abs(probe.kernel_distance(a, a)) < 1e-12, probe.kernel_distance(a, b) > 0)\n-- > true\ttrue",
    told(distance))
end
