-- SPDX-License-Identifier: Apache-2.0
-- A script as cells of prose and code. Prose is a run of comment lines at the left edge ("-- text" or "--")
-- that stands between two statements of the script's own level; inside a function, a table or a long string
-- such a line stays code. Whether it does, the compiler says: what is above it has to be a script of its own.
-- In the text that is run a call of the mark takes the place of the first line of prose, so lines keep their
-- numbers, locals their scope, and what is printed can be told apart by cell.

local function lines_of(text)
  local lines = {}
  for line in (text:gsub("\r\n", "\n") .. "\n"):gmatch "(.-)\n" do lines[#lines + 1] = line end
  if lines[#lines] == "" then lines[#lines] = nil end
  if lines[1] and lines[1]:find "^#" then lines[1] = "--" end -- "#!": for the shell
  return lines
end

local function is_prose(line)
  return line:find "^%-%-$" ~= nil or line:find "^%-%-%s" ~= nil
end

local function compiles(lines, to)
  return load(table.concat(lines, "\n", 1, to), "=script", "t") ~= nil
end

-- Cells {prose = {line, …}} and {code = text}, in order; then the text to run. mark: name of the function
-- that is called with the number of the cell whose code comes next.
return function(text, mark)
  local lines = lines_of(text)
  local run = table.move(lines, 1, #lines, 1, {})
  local whole = compiles(lines, #lines)
  local cells, i, from = {}, 1, 1
  local function finish_code(last)
    local code = table.concat(lines, "\n", from, last):gsub("^%s*\n", ""):gsub("%s+$", "")
    if code ~= "" then cells[#cells + 1] = { code = code } end
  end
  while i <= #lines do
    local last = i
    while lines[last] and is_prose(lines[last]) do last = last + 1 end
    local between = last > i and compiles(lines, i - 1)
    if between then
      local kept = run[i]
      run[i] = (";%s(%d);"):format(mark, #cells + 3) -- at most: prose and code before it are not counted yet
      between = not whole or compiles(run, #run)
      run[i] = kept
    end
    if between then
      finish_code(i - 1)
      local prose = {}
      for k = i, last - 1 do
        if not (lines[k]:find "^%-%- SPDX%-" or (k == 1 and lines[k] == "--")) then
          prose[#prose + 1] = lines[k]:match "^%-%-%s?(.*)$"
        end
      end
      cells[#cells + 1] = { prose = prose }
      run[i] = (";%s(%d);"):format(mark, #cells + 1)
      from = last
    end
    i = math.max(last, i + 1)
  end
  finish_code(#lines)
  return cells, whole and table.concat(run, "\n") or text
end
