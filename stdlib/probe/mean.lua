-- SPDX-License-Identifier: Apache-2.0
-- The mean of a list of numbers and its standard error; infinite for one number, of which nothing is known.
return function(list)
  local n, sum, squares = #list, 0, 0
  for _, v in ipairs(list) do sum = sum + v end
  local mean = sum / n
  for _, v in ipairs(list) do squares = squares + (v - mean) ^ 2 end
  return mean, n > 1 and math.sqrt(squares / (n - 1) / n) or math.huge
end
