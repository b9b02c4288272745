-- SPDX-License-Identifier: Apache-2.0
-- For tests of probes with a journal: what was stopped anywhere and resumed gives the bytes of what never stopped.
local check = dofile "tests/stdlib/bind/check.lua"

local STOP = "stopped here"

local function fresh()
  local path = os.tmpname()
  os.remove(path)
  return path
end

local function read(path)
  local file <close> = io.open(path, "rb")
  return file and file:read "a"
end

local function write(path, text)
  local file <close> = assert(io.open(path, "wb"))
  file:write(text)
end

local journal = {}

function journal.beside(path, name) return ("%s.%s.safetensors"):format(path, name) end

function journal.remove(path)
  os.remove(path)
  for n = 2, 30 do os.remove(journal.beside(path, n)) end
end

-- All that a record says, its tensors and models too.
local function text(...)
  local words = {}
  local function add(v)
    if math.type(v) == "float" then words[#words + 1] = ("%a"):format(v)
    elseif type(v) == "table" then
      local keys = {}
      for key in pairs(v) do keys[#keys + 1] = key end
      table.sort(keys, function(x, y) return tostring(x) < tostring(y) end)
      for _, key in ipairs(keys) do
        if type(v[key]) ~= "function" then
          words[#words + 1] = tostring(key)
          add(v[key])
        end
      end
    elseif type(v) == "userdata" and pcall(function() return v.totable end) then
      words[#words + 1] = v.dtype
      add(v:totable())
    elseif type(v) == "userdata" then
      for _, name in ipairs(v:names()) do add(v:tensor(name)) end
    else
      words[#words + 1] = tostring(v)
    end
  end
  for _, v in ipairs { ... } do add(v) end
  return table.concat(words, " ")
end

-- run(journal, tick) -> text; tick() is called in each turn of what takes long. It is run without a journal, stopped
-- after each number of turns in `stops`, and resumed; then from a journal that was cut, from one whose tensors are
-- gone, and from a whole one, which makes no turn.
local function resumes(run, stops, spare)
  local count, most = 0, math.huge
  local function tick()
    count = count + 1
    if count > most then error(STOP, 0) end
  end
  local function turns(path)
    count = 0
    local out = run(path, tick)
    return out, count
  end
  local want, all = turns()
  local path = fresh()
  local j = { path = path, every = 0 }
  local done = 0
  for _, k in ipairs(stops) do
    most, count = k, 0
    check.raises(STOP, run, j, tick)
    done = done + k
  end
  most = math.huge
  local got, left = turns(j)
  check.equal(got, want)
  -- Nothing but the turn that was stopped is done again, and what begins anew in each run.
  assert(left <= all - done + (spare or 0) * #stops, ("%d turns of %d are left after %d"):format(left, all, done))
  check.equal(read(path .. ".state.safetensors"), nil)
  local again, none = turns(j)
  check.equal(again, want)
  assert(none <= (spare or 0), none .. " turns of what is done")

  local whole = read(path)
  write(path, whole:sub(1, #whole * 2 // 3))
  check.equal(turns(j), want)
  for n = 2, 30 do os.remove(journal.beside(path, n)) end
  check.equal(turns(j), want)
  journal.remove(path)
  for n = 2, 30 do check.equal(read(journal.beside(path, n)), nil) end
end

return { resumes = resumes, text = text, fresh = fresh, read = read, write = write, remove = journal.remove }
