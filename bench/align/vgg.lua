-- SPDX-License-Identifier: Apache-2.0
-- The small VGG with batch norm of the stored pairs.
return function()
  local parts, into = {}, 1
  for i, n in ipairs { 12, 24, 48, 48 } do
    parts[#parts + 1] = { "conv" .. i, nn.conv2d(into, n, 3, { padding = 1, bias = false }) }
    parts[#parts + 1] = { "bn" .. i, nn.batch_norm(n) }
    parts[#parts + 1] = { "act" .. i, nn.activation "relu" }
    if i < 3 then parts[#parts + 1] = { "pool" .. i, nn.max_pool2d(2) } end
    into = n
  end
  parts[#parts + 1] = { "mean", nn.global_avg_pool() }
  parts[#parts + 1] = { "fc", nn.linear(48, 10) }
  return nn.sequential(parts, { input = { 28, 28, 1 } })
end
