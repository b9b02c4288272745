-- Numbers from a formula, so that twins have the same: sin(0.7 i + shift) * scale.
local formula = {}

function formula.tensor(shape, scale, shift)
  local n = 1
  for _, s in ipairs(shape) do n = n * s end
  return (((tensor.arange(n):to "f64" * 0.7 + shift):sin() * scale):to "f32"):reshape(shape)
end

-- The parameters of a network, and its buffers: matrices and kernels are waves, the rest is as in a fresh norm.
function formula.network(net)
  local params, buffers, list = {}, {}, net:params()
  table.sort(list, function(a, b) return a.name < b.name end)
  local count = 0
  for _, p in ipairs(list) do
    local running = p.name:match "running_(%a+)$"
    if running then
      buffers[p.name] = tensor.full(p.shape, running == "var" and 1 or 0)
    else
      count = count + 1
      params[p.name] = #p.shape > 1 and formula.tensor(p.shape, 0.05, count)
        or tensor.full(p.shape, p.name:match "weight$" and 1 or 0)
    end
  end
  return params, buffers
end

return formula
