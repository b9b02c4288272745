-- One gradient of an MLP's loss over 512 examples, or one product of its Hessian with a vector: arg = which, and the
-- size of the chunks that the examples are taken in.
local formula = require "formula"
local net, n = nn.mlp { 784, 512, 512, 10 }, 512
local f = net:loss({ x = formula.tensor({ n, 784 }, 1, 0.5), y = tensor.arange(n) % 10 }, { batch = tonumber(arg[2]) })
local theta = net:init { seed = 1 }
local v = net:init { seed = 2 } - theta
local what = {
  gradient = function() f:grad(theta) end,
  kept = function(H) H:hvp(v) end,
  again = function(H) H:hvp(v) end,
}
local H = f:linearize(theta, { keep = arg[1] == "kept" })
require "twin"(function()
  what[arg[1]](H)
  return 0
end)
