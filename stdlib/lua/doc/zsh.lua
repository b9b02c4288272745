-- SPDX-License-Identifier: Apache-2.0
-- Completion for zsh: as for bash, with what each command and option is for.

local script = [[
#compdef tarn
# Completion of tarn for zsh; made by `tarn reference --as zsh`.

_tarn() {
  local curcontext=$curcontext state line
  local -a program commands names
  program=(
@program@  )
  commands=(
@commands@  )
  names=(@names@)
  _arguments -C $program '(- *)'{-h,--help}'[what tarn can do]' '(- *)--version[the version]' \
    '(*)-e[run a line]:code:' '-i[then the prompt]' '1:command or script:->first' '*::argument:->rest' && return
  case $state in
    first)
      _describe -t commands 'command' commands
      _files -g '*.lua'
      ;;
    rest)
      case $words[1] in
@cases@        help) _describe -t commands 'command' commands; compadd -a names ;;
        *) _files ;;
      esac
      ;;
  esac
}

_tarn "$@"
]]

-- In single quotes, as a part of a specification: brackets and colons separate.
local function plain(text)
  return (text:gsub("'", "'\\''"):gsub("[%[%]:]", "\\%0"))
end

local function action(o)
  if not o.value then return "" end
  return (":%s:%s"):format(plain(o.value:gsub("|", " or ")), o.kind == "file" and "_files"
    or o.kind and "(" .. table.concat(o.kind, " ") .. ")" or "")
end

local function specification(o, indent)
  local out = {}
  for i, name in ipairs(o.names) do
    out[i] = ("%s'%s%s[%s]%s'"):format(indent, o.list and "*" or "", name, plain(o.text), action(o))
  end
  return table.concat(out, "\n")
end

return function(commands, flags, docs)
  local program, list, cases, names = {}, {}, {}, {}
  for i, f in ipairs(flags) do program[i] = specification(f, "    ") .. "\n" end
  for i, c in ipairs(commands) do
    list[i] = ("    '%s:%s'\n"):format(c.name, plain(c.summary))
    local options = {}
    for _, o in ipairs(c.options) do
      if not o.names[1]:find "^%-%-%u" then -- --NAME: any name
        options[#options + 1] = " \\\n" .. specification(o, "          "):gsub("\n", " \\\n")
      end
    end
    cases[i] = ("        %s) _arguments $program%s '*:file:_files' ;;\n"):format(c.name, table.concat(options))
  end
  for i, d in ipairs(docs) do names[i] = d.name end
  local parts = { program = table.concat(program), commands = table.concat(list), cases = table.concat(cases),
    names = table.concat(names, " ") }
  return (script:gsub("@(%a+)@", parts))
end
