-- SPDX-License-Identifier: Apache-2.0
-- What a run says: one row an epoch, in a CSV or JSON-lines file, and a line on the terminal while it goes.
return function(core)
  local journal = require "search.journal"
  local log = {}
  local columns = { "epoch", "step", "loss", "accuracy", "rate", "val_loss", "val_accuracy", "seconds" }

  local function csv(row)
    local words = {}
    for i, name in ipairs(columns) do
      local v = row[name]
      words[i] = v == nil and "" or math.type(v) == "integer" and ("%d"):format(v) or ("%.9g"):format(v)
    end
    return table.concat(words, ",") .. "\n"
  end

  local function text_of(path, row)
    return path:find "%.csv$" and csv(row) or journal.text(row) .. "\n"
  end

  function log.check(path)
    if path ~= nil and not (type(path) == "string" and (path:find "%.csv$" or path:find "%.jsonl$")) then
      error("train.fit: log is the path of a .csv or .jsonl file, got " .. tostring(path), 3)
    end
  end

  -- The file with these rows, whatever it held before.
  function log.start(path, rows)
    local file = assert(io.open(path, "wb"))
    if path:find "%.csv$" then assert(file:write(table.concat(columns, ","), "\n")) end
    for _, row in ipairs(rows) do assert(file:write(text_of(path, row))) end
    assert(file:close())
  end

  function log.add(path, row)
    local file = assert(io.open(path, "ab"))
    assert(file:write(text_of(path, row)))
    assert(file:close())
  end

  local function duration(s)
    if s < 60 then return ("%.0f s"):format(s) end
    if s < 3600 then return ("%d:%02d min"):format(s // 60, s // 1 % 60) end
    return ("%.1f h"):format(s / 3600)
  end

  -- draw(run, loss, rate) at most ten times a second, from the first second on; draw() wipes the line.
  function log.line(quiet)
    local begun = core.now()
    local due = quiet and math.huge or begun + 1
    return function(run, loss, rate)
      if not run then
        core.line()
        return
      end
      local now = core.now()
      if now < due then return end
      local accuracy = run.right and ("  accuracy %.3f"):format(run.right / run.count) or ""
      local left = (now - begun) / math.max(run.step - run.first, 1) * (run.total - run.step)
      local text = ("epoch %d/%d  step %d/%d  loss %.4g%s  rate %.3g  %s left"):format(run.epoch, run.epochs, run.step,
        run.total, loss, accuracy, rate, duration(left))
      due = core.line(text) and now + 0.1 or math.huge -- no terminal: never again
    end
  end

  return log
end
