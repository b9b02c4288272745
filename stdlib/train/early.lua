-- SPDX-License-Identifier: Apache-2.0
-- Early stop: when a number has not become better for so many times. What has been seen is in two fields of the run,
-- best_value and since, which checkpoints keep.
return function(check)
  local early = {}

  local function fail(what, text, ...) error(what .. ": " .. text:format(...), 0) end

  -- The option as it is given, checked; unit: what patience counts.
  function early.of(o, what, unit)
    if o == nil then return nil end
    if type(o) == "number" then o = { patience = o } end
    if type(o) ~= "table" then
      fail(what, "early_stop is a number of %s or {patience =, metric =, min_delta =, restore =}", unit)
    end
    check(what .. ": early_stop", o, { "patience", "metric", "min_delta", "restore" })
    local metric, patience = o.metric or "loss", o.patience or 5
    if metric ~= "loss" and metric ~= "accuracy" then
      fail(what, "early_stop.metric is \"loss\" or \"accuracy\", got %s", tostring(metric))
    end
    if math.type(patience) ~= "integer" or patience < 1 then
      fail(what, "early_stop.patience is a whole number, at least 1, got %s", tostring(patience))
    end
    if o.min_delta ~= nil and type(o.min_delta) ~= "number" then
      fail(what, "early_stop.min_delta is a number, got a %s", type(o.min_delta))
    end
    return { patience = patience, metric = metric, min_delta = o.min_delta or 0, restore = o.restore ~= false,
      what = what }
  end

  local function better(o, v, best)
    if best == nil then return true end
    if o.metric == "accuracy" then return v > best + o.min_delta end
    return v < best - o.min_delta
  end

  -- What is judged of a row of the log.
  function early.value(o, row)
    return row["val_" .. o.metric] or row[o.metric] or fail(o.what, "early_stop: there is no %s", o.metric)
  end

  -- Whether v is the best so far; run.since counts what came behind it.
  function early.seen(o, run, v)
    if better(o, v, run.best_value) then
      run.best_value, run.since = v, 0
      return true
    end
    run.since = run.since + 1
    return false
  end

  function early.over(o, run) return o ~= nil and run.since >= o.patience end

  return early
end
