-- SPDX-License-Identifier: Apache-2.0
-- Per-example gradients of a network against a file as tests/golden/net/networks/README describes.
local oracle = dofile "tests/stdlib/nn/oracle.lua"

-- o: kinds of Fisher information that are compared, and dtypes.
function oracle.check_examples(path, net, o)
  o = o or {}
  local m, about = oracle.read(path)
  for _, dtype in ipairs(o.dtypes or { "f32", "f64" }) do
    local theta = oracle.theta(m, dtype)
    local d = { x = oracle.input(m, dtype), y = #m:names "^in\\.labels$" > 0 and m:tensor "in.labels" or nil }
    local said = {}
    local function compare(what, got, want)
      local off = oracle.distance(got, want)
      -- The file says what f32 costs in a gradient; squares are twice as far off, relatively.
      local factor = what == "example_grad_norm" and 10 or 20
      local most = dtype == "f64" and 1e-11 or math.max(1e-6, factor * about.error.grad)
      said[#said + 1] = ("%s %.1e"):format(what, off)
      assert(off <= most, ("%s of %s in %s: off by %.3e, allowed %.1e"):format(what, path, dtype, off, most))
    end
    compare("example_grad_norm", { n = probe.example_norms(net, theta, d, { batch = 5 }) },
      { n = m:tensor "example_grad_norm" })
    for _, kind in ipairs(o.kinds or { "empirical", "exact" }) do
      local want = (oracle.group(m, "fisher_" .. kind))
      compare("fisher_" .. kind, oracle.by_name(probe.fisher(net, theta, d, { kind = kind, batch = 7 }), want), want)
    end
    print(path:match "[^/]*$", dtype, table.concat(said, ", "))
  end
end

return oracle
