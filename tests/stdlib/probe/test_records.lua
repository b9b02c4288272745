-- SPDX-License-Identifier: Apache-2.0
-- What small probes return has a picture too: the values behind its one number, in order; and rows for a table.
local check = dofile "tests/stdlib/bind/check.lua"

local function shows(r, values)
  local sorted = { table.unpack(values) }
  table.sort(sorted)
  local fig = r:plot { title = "as asked" }
  check.equal(fig.title, "as asked")
  check.equal(fig.series[1].y, sorted)
  assert(fig.series[1].x[1] > 0 and fig.series[1].x[#sorted] < 1 and fig:svg():find "<svg")
end

local X, Y = tensor.normal({ 40, 4 }, 1), tensor.normal({ 40, 4 }, 2)
for _, name in ipairs { "cca", "svcca", "pwcca", "matched_correlation" } do
  local r = probe[name](X, Y)
  shows(r, r.correlations)
end
local relative = probe.relative(X, Y, { anchors = 8 })
check.near(tensor(relative.cosines):mean(), relative.value, 1e-6)
shows(relative, relative.cosines)
check.raises("one number makes no picture", function() return probe.cka(X, Y):plot() end)

local theta = model.new { { "w", tensor { { 3, 4 } } } }
local function bowl(m) return ((m - theta)["w"] ^ 2):sum() end
local radius = probe.radius(bowl, theta, { rise = 1, directions = 3 })
shows(radius, radius.radius)

local function f(x) return (x * x * tensor { 4, 1 }):sum() / 2 end
local at = tensor { 1, 0 }
local average, worst = probe.average_sharpness(f, at, { samples = 9 }), probe.sharpness(f, at, { restarts = 2 })
shows(average, average.draws)
shows(worst, worst.rises)
local keskar = probe.epsilon_sharpness(f, at, { restarts = 2 })
check.near(100 * math.max(table.unpack(keskar.rises)) / (1 + f(at)), keskar.value, 1e-6)
shows(keskar, keskar.rises)
check.raises("one number makes no picture", function() return probe.sam(f, at):plot() end)

local net, d = nn.mlp { 2, 6, 2 }, data.two_moons { n = 60, seed = 1 }
local a, b = net:init { seed = 1 }, net:init { seed = 2 }
local parts = probe.sharpness(net:loss(d), a, { m = 20, steps = 3, restarts = 0 })
shows(parts, parts.parts)
local bias = probe.representation_bias(net, a, b, d)
local relatives = {}
for i, row in ipairs(bias.rows) do relatives[i] = row.relative end
check.equal(bias:plot().series[1].y, relatives)
local tickets = probe.tickets(net, d, { levels = 2, train = { epochs = 2, batch = 20, quiet = true } })
local pool = probe.ticket_pool(net, tickets, d, { alphas = { 0.5 } })
check.equal({ #pool:plot().series[1].y, pool:plot().series[2].y[1] }, { 3, pool.rows[1].after })
local path = os.tmpname() .. ".csv"
probe.interpolation(net:loss(d), a, b, { points = 3 }):save(path)
check.equal(io.lines(path)():sub(1, 7), "t,loss,")
os.remove(path)

-- a word that is all but a field is a slip, and told at the line that asks; what a record has no more than others is nil
local line = probe.path(f, tensor { -1, 0 }, at, { points = 3 })
check.raises("path: no field 'los'; did you mean 'loss'?", function() return line.los end)
check.raises("path: no field 'barier'; did you mean 'barrier'?", function() return line.barier end)
check.raises("barrier: no field 'max_los'; did you mean 'max_loss'?", function() return line:barrier().max_los end)
assert(line.accuracy == nil and line.nothing == nil and line.x == nil and line[1] == nil and line[0.5] == nil)
assert(line:barrier().instability_error == nil) -- three edits from instability_loss and more
assert(tostring(worst):find "%d starts%)$")
assert(tostring(parts):find "starts, mean over 3 parts%)$")
check.raises("probe.cka: expected a network and its models, or two tensors [examples, …], got function",
  probe.cka, function() end, a, b, d)
local made = probe.dropout_path(net:loss(d), a, b, { tries = 1 })
assert(tostring(made):find(("bound %.4g"):format(made.bound), 1, true))

-- wrong arguments
local set = data.two_moons { n = 6, seed = 1 }
check.raises("probe.perturbation: expected a data set or { x =, y = }, got boolean", probe.perturbation, net, true)
check.raises("probe.matrix: expected f:linearize(theta), a symmetric matrix", probe.matrix, set)
check.raises("probe.sam: expected net:loss(data) or a function, got dataset", probe.sam, set, a)
check.raises("probe.direction: seed is a text, expected a whole number", probe.direction, a, { seed = "x" })
check.raises("probe.direction: from is a dataset, expected a model", probe.direction, a, { from = set })
