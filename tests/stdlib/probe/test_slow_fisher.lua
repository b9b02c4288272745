-- SPDX-License-Identifier: Apache-2.0
-- Gradients of single examples of all reference networks, from the oracles beside the tree where they are there.
local oracle = dofile "tests/stdlib/probe/oracle.lua"
if not oracle.here() then return end

for _, name in ipairs { "mlp_relu", "mlp_gelu_norm", "resnet_eval", "bert" } do
  oracle.run(oracle.check_examples, name)
end
oracle.run(oracle.check_examples, "llama", { kinds = { "empirical" } })
oracle.run(oracle.check_examples, "llama", { kinds = { "exact" }, dtypes = { "f64" } }) -- every token at every place
