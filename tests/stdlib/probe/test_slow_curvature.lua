-- SPDX-License-Identifier: Apache-2.0
-- Curvature of trained networks: as many outliers as classes but one; threads change nothing; and the reference networks on
-- Fashion-MNIST from the oracles beside the tree where they are there.
local check = dofile "tests/stdlib/bind/check.lua"
local curved = dofile "tests/stdlib/probe/curved.lua"
local decode = require "json.decode".decode

-- ---- any number of threads, the same digits ----

do
  local said = {}
  for threads = 1, 3 do
    local pipe = io.popen(('"$(readlink /proc/$PPID/exe)" --threads %d tests/stdlib/probe/run_curvature.lua'):format(threads))
    said[threads] = pipe:read "a"
    assert(pipe:close())
  end
  assert(#said[1] > 200)
  check.equal(said[2], said[1])
  check.equal(said[3], said[1])
end

-- ---- outliers of the digits' Hessian: nine, for ten classes ----

do
  local m = model.load "examples/data/digits.safetensors"
  local d = { x = m:tensor "train.images", y = m:tensor "train.labels" }
  local net = nn.mlp { 64, 16, 10 }
  local theta = train.fit(net, d, { seed = 1, epochs = 60, batch = 50, optimiser = "sgd", lr = 0.1, quiet = true })
  local f = net:loss(d)
  print("digits", f:report(theta).accuracy)
  theta = theta:cast "f64":load()
  f = net:loss { x = d.x:to "f64", y = d.y }
  local H <close> = f:linearize(theta)
  local all = probe.matrix(H):eigh():totable()
  local exact, best, at = {}, 0, nil
  for i = 1, 15 do exact[i] = all[#all + 1 - i] end
  for i = 5, 14 do
    if exact[i] / exact[i + 1] > best then best, at = exact[i] / exact[i + 1], i end
  end
  print("ratio", best, at)
  check.equal(at, 9)
  assert(all[1] > -0.1 * exact[1])
  -- Lanczos gives the same, and each start counts the same outliers.
  local e = probe.eigenvalues(H, { top = 9, tolerance = 1e-9 })
  assert(curved.off(e.values, exact) < 1e-12)
  local s = probe.spectrum(H, { steps = 40, starts = 10, seed = 1 })
  for _, nodes in ipairs(s.nodes) do
    local count = 0
    for _, v in ipairs(nodes) do count = count + (v > (exact[9] + exact[10]) / 2 and 1 or 0) end
    check.equal(count, 9)
  end
  local exact_trace = probe.fisher_trace(net, theta, { x = d.x:to "f64" }).trace[1] -- of ReLUs also the Hessian's
  print("trace by quadrature", s.trace / exact_trace, s.trace_error / exact_trace)
  assert(math.abs(s.trace - exact_trace) < 4 * s.trace_error)
  -- Within a tenth from every seed, ten starts; by the weights alone that is chance: their standard error is 14 %.
  local frobenius, diagonal, plain = 0, 0.0, {}
  local dense = probe.matrix(H)
  for i = 1, #all do frobenius, diagonal = frobenius + all[i] ^ 2, diagonal + dense[{ i, i }] ^ 2 end
  local sigma = math.sqrt(2 * (frobenius - diagonal) / 10) / exact_trace
  print("standard error of ten starts", sigma)
  assert(sigma > 0.1)
  for seed = 0, 9 do
    local one = probe.spectrum(H, { steps = 40, starts = 10, seed = seed })
    check.near(one.trace / exact_trace, 1, 0.1, "trace, seed " .. seed)
    check.near(one.trace_plain / exact_trace, 1, 4 * sigma, "plain trace, seed " .. seed)
    plain[#plain + 1] = one.trace_plain / exact_trace
    for _, weights in ipairs(one.weights) do
      local sum = 0
      for _, w in ipairs(weights) do sum = sum + w end
      check.near(sum, 1, 1e-12)
    end
  end
  print("by the weights alone", table.unpack(plain))
  -- most of the gradient lies in the top space, while it trains
  local early = train.fit(net, d, { seed = 1, epochs = 10, batch = 50, optimiser = "sgd", lr = 0.1, quiet = true })
  local h <close> = net:loss(d):linearize(early)
  local top = probe.eigenvalues(h, { top = 10, vectors = true })
  local share, random = probe.share_in_top(top, h:grad())
  print("share in top", share, random)
  assert(share > 20 * random)
end

-- ---- the reference network on Fashion-MNIST ----

local folder = "../shared/oracles/"
if not io.open(folder .. "landscape/probes/fm.json", "rb") then
  print("skipped: " .. folder .. " is not there")
  return
end

do
  local file <close> = io.open(folder .. "landscape/probes/fm.json")
  local want, io_ = decode(file:read "a"), model.load(folder .. "landscape/probes/fm_io.safetensors")
  local rows = io_:tensor "indices":totable()
  for i, v in ipairs(rows) do rows[i] = v + 1 end
  local b = data.fashion_mnist().train:subset(rows):batch(1, 512)
  local bytes = (b.x:to "f64" * 255):round()
  local x = ((bytes / 255 - 0.286) / 0.353):to "f32" -- as the oracle rounds it
  local net = nn.mlp { 784, 64, 32, 10 }
  for dtype, most in pairs { f64 = 1e-9, f32 = 1e-4 } do
    local f, theta = net:loss { x = x:to(dtype), y = b.y }, model.load(folder .. "landscape/probes/fm_A.safetensors"):cast(dtype):load()
    local H <close> = f:linearize(theta)
    local e = probe.eigenvalues(H, { top = 20, tolerance = dtype == "f64" and 1e-7 or 1e-5, vectors = true })
    local low = probe.eigenvalues(H, { top = 3, which = "smallest", tolerance = dtype == "f64" and 1e-6 or 1e-4 })
    print(dtype, "top 20", curved.off(e.values, want.top20), e.products, "bottom 3", curved.off(low.values, want.bottom3), low.products)
    assert(e.converged == 20 and curved.off(e.values, want.top20) < most)
    assert(curved.off(low.values, want.bottom3) < most)
    check.near(H:hvp(e.vectors[20]):dot(e.vectors[20]), want.top20[20], 1e-4)
    local trace = probe.fisher_trace(net, theta, { x = x:to(dtype) }).trace[1]
    print(dtype, "trace", trace - want.trace_exact)
    check.near(trace, want.trace_exact, most * want.trace_exact)
    for _, w in ipairs(want.sharpness) do
      check.near(probe.sam(f, theta, { rho = w.rho }).value, w.sam_one_step, dtype == "f64" and 1e-10 or 1e-5)
      check.near(probe.sam(f, theta, { rho = w.rho, adaptive = true }).value, w.asam_one_step_eta0, dtype == "f64" and 1e-10 or 1e-5)
    end
    if dtype == "f64" then
      local w = want.sharpness[1]
      local top = { e.vectors[1] }
      local r = probe.sharpness(f, theta, { rho = w.rho, directions = top, restarts = 1 })
      print("worst l2", r.value - w.worst_l2)
      assert(r.value >= w.worst_l2 - 1e-6)
      r = probe.sharpness(f, theta, { rho = w.rho, directions = top, restarts = 1, adaptive = true })
      print("worst adaptive l2", r.value - w.worst_adaptive_l2)
      assert(r.value >= w.worst_adaptive_l2 - 1e-6)
      local some = x[{ { 1, 16 } }]:to "f64"
      local other = model.load(folder .. "landscape/probes/fm_B.safetensors"):cast "f64":load()
      local a, k = probe.ntk(net, theta, some), probe.ntk(net, other, some)
      assert((a.kernel - io_:tensor "ntk16_A"):abs():max() < 1e-10 * a.trace)
      assert((k.kernel - io_:tensor "ntk16_B"):abs():max() < 1e-10 * k.trace)
      check.near(probe.kernel_distance(a, k), want.ntk.kernel_distance, 1e-10)
    else
      for _, method in ipairs { "hutchinson", "hutch++" } do
        local r = probe.trace(H, { samples = 60, method = method, seed = 1 })
        print(r)
        assert(math.abs(r.trace - want.trace_exact) < 4 * r.error)
      end
      local s = probe.spectrum(H, { steps = 60, starts = 6, seed = 1 })
      print(s)
      assert(math.abs(s.trace - want.trace_exact) < 4 * s.trace_error)
      local w = want.moments_deflated_hutchinson_60["tr_H^2"]
      assert(math.abs(s.square - w.estimate) < 4 * math.sqrt(s.square_error ^ 2 + w.stderr ^ 2))
    end
  end
end

do -- the other reference: images x / 255
  local m = model.load(folder .. "net/curvature/fashion_top.safetensors")
  local p, list = model.load(folder .. "net/networks/mlp_relu.safetensors"), {}
  for _, name in ipairs(p:names "^param\\.") do list[#list + 1] = { name:sub(7), p:tensor(name):to "f64" } end
  local net = nn.mlp { 784, 64, 32, 10 }
  local f = net:loss { x = m:tensor "in.x":to "f64", y = m:tensor "in.labels" }
  local H <close> = f:linearize(model.new(list))
  local e = probe.eigenvalues(H, { top = 10, tolerance = 1e-7 })
  local low = probe.eigenvalues(H, { top = 3, which = "smallest", tolerance = 1e-6 })
  assert(curved.off(e.values, m:tensor "hessian_top10":totable()) < 1e-9)
  assert(curved.off(low.values, m:tensor "hessian_bottom3":totable()) < 1e-9)
  local exact = probe.fisher_trace(net, model.new(list), { x = m:tensor "in.x":to "f64" }).trace[1]
  check.near(exact, m:tensor "trace_exact":item(), 1e-9 * exact)
end
