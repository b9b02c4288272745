-- SPDX-License-Identifier: Apache-2.0
-- What a long command shows while it works, and the stops that wait for it. The functions are those of
-- stdlib/bind/train.c, which the library hands over when one of its modules is opened.
local watch = {}
local core
local PERIOD = 0.1 -- seconds between two drawings; nothing is drawn in the first second

function watch.open(functions) core = functions end

-- A value to be closed. With hold, Ctrl-C, a signal or the end of --time waits until then (see watch.stopping), so
-- that what there is can be saved; a second Ctrl-C does not wait.
function watch.run(hold) return core.run(hold) end

-- True when a stop waits.
function watch.stopping() return core.stopping() end

-- A function that draws a line of progress over the one before, on a terminal; without a text it wipes it.
function watch.line()
  local due = core.now() + 1
  return function(text)
    if not text then
      core.line()
    elseif core.now() >= due then
      due = core.line(text) and core.now() + PERIOD or math.huge
    end
  end
end

-- "12 s", "3:05 min", "1.5 h"
function watch.duration(seconds)
  if seconds < 60 then return ("%.0f s"):format(seconds) end
  if seconds < 3600 then return ("%d:%02d min"):format(seconds // 60, seconds // 1 % 60) end
  return ("%.1f h"):format(seconds / 3600)
end

return watch
