-- SPDX-License-Identifier: Apache-2.0
-- A recipe: a merge that a stranger can run safely and repeat to the byte. It says what it needs and what can
-- be set, and returns a function that makes a model of the inputs. It sees their headers and nothing else of
-- the machine; `tarn run` runs the plan that comes out.
--
--     tarn run recipe.lua --help
--     tarn run recipe.lua --base ../data/base.safetensors --low … --high … --digits … -o out
--     tarn lock recipe.lua --base …         writes recipe.lock (here it lies beside): digests of the inputs, parameters

-- y = fc3(relu(fc2(relu(fc1(x)))))
local function forward(m, x)
  x = (x:matmul(m["fc1.weight"]:t()) + m["fc1.bias"]):relu()
  x = (x:matmul(m["fc2.weight"]:t()) + m["fc2.bias"]):relu()
  return x:matmul(m["fc3.weight"]:t()) + m["fc3.bias"]
end

-- Per cent of the test images that a model gets right.
local function accuracy(m, digits)
  digits = digits:load()
  local labels = digits["test.labels"]
  local answer = forward(m:load(), digits["test.images"]):argmax(2) - 1
  return 100 * answer:eq(labels):to "f32":sum() / #labels
end

return recipe {
  name = "all ten digits",
  version = "1.0.0",
  license = "CC0-1.0",
  tarn = "0.1",
  summary = "Two networks, each fine-tuned on half of the digits, merged into one that reads all ten.",
  authors = "the tarn examples",
  inputs = {
    base = { license = "CC0-1.0", doc = "what both were fine-tuned from", shape = { ["fc1.weight"] = { 128, 64 } } },
    low = { license = "CC0-1.0", doc = "fine-tuned on 0-4" },
    high = { license = "CC0-1.0", doc = "fine-tuned on 5-9" },
    digits = { license = "CC-BY-4.0", doc = "test images, for check and score", optional = true },
  },
  params = {
    density = { 0.2, min = 0, max = 1, doc = "share of each task vector that is kept" },
    lambda = { 1, min = 0, doc = "how far to go along the merged vector" },
  },
  build = function(m, p)
    return merge.ties { base = m.base, m.low, m.high, density = p.density, lambda = p.lambda }
  end,
  check = function(out, m)
    if m.digits then
      local right = accuracy(out, m.digits)
      return right > 70, string.format("only %.1f %% of the test images are right", right)
    end
  end,
  score = function(out, m) return accuracy(out, m.digits) end,
}
