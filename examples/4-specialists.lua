-- SPDX-License-Identifier: Apache-2.0
-- Two specialists, one merge. `low` was fine-tuned on the digits 0-4, `high` on 5-9; each has
-- forgotten the other half. Merging their weights brings both back, without any training.
local data = "examples/data/"
local base = model.open(data .. "base.safetensors")
local low = model.open(data .. "low.safetensors")
local high = model.open(data .. "high.safetensors")
local digits = model.load(data .. "digits.safetensors")

-- y = fc3(relu(fc2(relu(fc1(x)))))
local function forward(m, x)
  x = (x:matmul(m["fc1.weight"]:t()) + m["fc1.bias"]):relu()
  x = (x:matmul(m["fc2.weight"]:t()) + m["fc2.bias"]):relu()
  return x:matmul(m["fc3.weight"]:t()) + m["fc3.bias"]
end

local images, labels = digits["test.images"], digits["test.labels"]
local is_low = labels:lt(5):to "f32"

-- Per cent right on the digits 0-4, on 5-9, and on all.
local function accuracy(m)
  local answer = forward(m:load(), images):argmax(2) - 1
  local right = answer:eq(labels):to "f32"
  local n, n_low, r, r_low = #labels, is_low:sum(), right:sum(), (right * is_low):sum()
  return 100 * r_low / n_low, 100 * (r - r_low) / (n - n_low), 100 * r / n
end

local models = {
  { "base", base },
  { "low (fine-tuned on 0-4)", low },
  { "high (fine-tuned on 5-9)", high },
  { "linear", merge.linear { low, high } },
  { "task arithmetic, lambda 0.4", merge.task_arithmetic { base = base, low, high, lambda = 0.4 } },
  { "TIES, density 0.2", merge.ties { base = base, low, high, density = 0.2 } },
  { "DARE, density 0.5", merge.dare_linear { base = base, low, high, weight = 0.5, density = 0.5, seed = 1 } },
}

print(string.format("%-30s %6s %6s %6s", "accuracy on test images, %", "0-4", "5-9", "all"))
for _, row in ipairs(models) do
  print(string.format("%-30s %6.1f %6.1f %6.1f", row[1], accuracy(row[2])))
end
