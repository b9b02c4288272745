-- SPDX-License-Identifier: Apache-2.0
-- Checkpoints of one training run: a folder's in the order of their steps, and the averages of such
-- a list that are named after windows of it. The averages are merge.linear.
return function(define, check, fail, kind)
  local expect = require "expect"(kind, fail)
  -- The last number of a name that is no dtype's (bf16, fp32).
  local function step_of(name)
    local step
    for word in name:gmatch "%w+" do
      if not word:lower():find "^b?fp?%d+$" and not word:lower():find "^b?float%d+$" then
        for digits in word:gmatch "%d+" do step = tonumber(digits) end
      end
    end
    return step
  end

  local function whole(name, option, v, least)
    if v ~= nil and not (math.type(v) == "integer" and v >= least) then
      error(("%s: %s must be a whole number, at least %d, got %s"):format(name, option, least, tostring(v)), 4)
    end
  end

  -- The entries of a list (each with .step, ascending) that the options choose: from and to bound
  -- the steps, every and last count back from the end.
  local function choose(name, list, o)
    expect(name, o, { from = "a number", to = "a number" })
    local within, chosen = {}, {}
    for _, e in ipairs(list) do
      if e.step >= (o.from or -math.huge) and e.step <= (o.to or math.huge) then within[#within + 1] = e end
    end
    whole(name, "every", o.every, 1)
    for i = #within, 1, -(o.every or 1) do
      if #chosen == (o.last or math.huge) then break end
      table.insert(chosen, 1, within[i])
    end
    return chosen
  end

  local function listed(name, folder, o)
    expect.one(name, nil, folder, "the path of a folder")
    expect(name, o, { step = "a function" })
    local list, seen = {}, {}
    for _, path in ipairs(model.list(folder)) do
      local short = path:match "[^/]+$":gsub("%.safetensors$", "")
      local step = (o.step or step_of)(short)
      if step ~= nil then
        if math.type(step) == nil then
          error(("%s: option step gave %s for %s, expected a number or nil"):format(name, type(step), short), 3)
        elseif seen[step] then
          error(("%s: %s and %s are both step %s; option step = function(name) … end tells them apart"):format(
            name, seen[step], short, tostring(step)), 3)
        end
        seen[step] = short
        list[#list + 1] = { step = step, path = path }
      end
    end
    table.sort(list, function(x, y) return x.step < y.step end)
    return list
  end

  local function checkpoints(name, folder, o)
    local list = listed(name, folder, o)
    local chosen = choose(name, list, o)
    if #chosen == 0 then
      error(("%s: %s holds no checkpoint%s"):format(name, folder,
        #list > 0 and (" within the bounds; its steps go from %s to %s"):format(list[1].step, list[#list].step)
        or " with a number in its name"), 3)
    end
    local models, steps = {}, {}
    for i, e in ipairs(chosen) do models[i], steps[i] = model.open(e.path), e.step end
    return models, steps
  end

  define("model.checkpoints",
    "model.checkpoints(folder, {from =, to =, every = 1, last =, step =}) -> {m, …}, {step, …}",
    "The checkpoints of a training run that lie in a folder, opened, in the order of their steps, and the steps. "
    .. "Files and folders as in model.list; the step is the last number in the name (those of dtypes aside), and "
    .. "what has none is left out. Every merge of a list takes the result: merge.median(model.checkpoints \"run\").\n"
    .. "  from, to: first and last step that count\n"
    .. "  every: only each n-th of these, counted back from the last, which is always in\n"
    .. "  last: at most so many, the latest\n"
    .. "  step: function(name) -> number, or nil for what is no checkpoint; name is without folder and .safetensors",
    "local run, steps = model.checkpoints(\"examples/data\", { step = function(name)\n"
    .. "  return ({ low = 1000, high = 2000, twin = 3000 })[name]\nend, last = 2 })\n"
    .. "print(#run, table.concat(steps, \" \"))\n-- > 2\t2000 3000",
    function(folder, o)
      check("model.checkpoints", o, { "from", "to", "every", "last", "step" })
      o = o or {}
      whole("model.checkpoints", "last", o.last, 1)
      return checkpoints("model.checkpoints", folder, o)
    end)

  -- ---- averages over windows ----

  -- The mean of any number of models: what merge.linear gives, were there no bound on its list.
  local function mean(models)
    local most, sum = 60, nil
    if #models <= most then return merge.linear(models) end
    for first = 1, #models, most do
      local part = { table.unpack(models, first, math.min(first + most - 1, #models)) }
      if sum then table.insert(part, 1, sum) end
      part.normalize = false
      sum = merge.linear(part)
    end
    return sum / #models
  end

  -- A folder's checkpoints, or a list of models, whose steps are 1, 2, …
  local function window(name, where, o, options)
    check(name, o, options)
    o = o or {}
    if type(where) == "string" then return mean((checkpoints(name, where, o))) end
    if kind(where) ~= "table" or #where == 0 then
      error(name .. ": expected a folder of checkpoints, or a list of models", 3)
    end
    local list, models = {}, {}
    for i = 1, #where do list[i] = { step = i, model = expect.one(name, "item " .. i, where[i], "a model") } end
    for i, e in ipairs(choose(name, list, o)) do models[i] = e.model end
    if #models == 0 then error(("%s: no model is within the bounds; there are %d"):format(name, #where), 3) end
    return mean(models)
  end

  define("merge.swa", "merge.swa(folder or {m1, m2, …}, {from =, to =, every = 1, step =}) -> model",
    "Stochastic weight averaging: the mean of the checkpoints from a step on, those of a constant or cyclic rate "
    .. "(Izmailov et al. 2018, Averaging weights leads to wider optima, arXiv:1803.05407). A folder is read as in "
    .. "model.checkpoints, whose options these are; the steps of a list are 1, 2, … Statistics of batch "
    .. "normalisation are averaged like the rest and do not fit the result: they have to be taken anew.",
    "print(merge.swa({ a, b, c }, { from = 2 }):norm() == merge.linear({ b, c }):norm())\n-- > true",
    function(where, o) return window("merge.swa", where, o, { "from", "to", "every", "step" }) end)

  define("merge.lawa",
    "merge.lawa(folder or {m1, m2, …}, {window = 5, every = 1, to =, step =}) -> model",
    "Latest weight averaging: the mean of the last checkpoints, some way apart (Kaddour 2022, Stop wasting my "
    .. "time!, arXiv:2209.14981; for language models Sanyal et al. 2023, arXiv:2306.03241). The other options as in "
    .. "merge.swa.\n"
    .. "  window: how many checkpoints, the latest; fewer where there are fewer\n"
    .. "  every: only each n-th, counted back from the last",
    "local m = merge.lawa({ base, a, b, c }, { window = 2, every = 2 })\n"
    .. "print(m:norm() == merge.linear({ a, c }):norm())\n-- > true",
    function(where, o)
      local name, n = "merge.lawa", kind(o) == "table" and o.window or 5
      check(name, o, { "window", "every", "to", "step" })
      whole(name, "window", n, 1)
      local given = {}
      for key, v in pairs(o or {}) do given[key] = v end
      given.window, given.last = nil, n
      return window(name, where, given, { "last", "every", "to", "step" })
    end)
end
