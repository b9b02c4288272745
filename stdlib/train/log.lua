-- SPDX-License-Identifier: Apache-2.0
-- What a run says: one row an epoch, in a CSV or JSON-lines file, and a line on the terminal while it goes.
return function(core)
  local journal = require "search.journal"
  local duration = require "watch".duration
  local log = {}
  local columns = { "epoch", "step", "loss", "accuracy", "rate", "val_loss", "val_accuracy", "seconds" }

  local function word(v)
    if v == nil then return "" end
    if type(v) == "table" then return table.concat(v, " ") end
    return math.type(v) == "integer" and ("%d"):format(v) or ("%.9g"):format(v)
  end

  local function text_of(path, row, list)
    if not path:find "%.csv$" then return journal.text(row) .. "\n" end
    local words = {}
    for i, name in ipairs(list or columns) do words[i] = word(row[name]) end
    return table.concat(words, ",") .. "\n"
  end

  function log.check(path, what)
    if path ~= nil and not (type(path) == "string" and (path:find "%.csv$" or path:find "%.jsonl$")) then
      error((what or "train.fit") .. ": log is the path of a .csv or .jsonl file, got "
        .. (type(path) == "string" and path or core.kind(path)), 3)
    end
  end

  local function write(path, mode, text)
    local file, why = io.open(path, mode)
    if not file then error("train: the log cannot be opened: " .. why, 0) end
    local ok, reason = file:write(text)
    local closed, late = file:close()
    if not (ok and closed) then error(("train: the log %s cannot be written: %s"):format(path, reason or late), 0) end
  end

  -- The file with these rows, whatever it held before. list: the columns of a .csv.
  function log.start(path, rows, list)
    local text = { path:find "%.csv$" and table.concat(list or columns, ",") .. "\n" or "" }
    for _, row in ipairs(rows) do text[#text + 1] = text_of(path, row, list) end
    write(path, "wb", table.concat(text))
  end

  function log.add(path, row, list) write(path, "ab", text_of(path, row, list)) end

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
