-- SPDX-License-Identifier: Apache-2.0
-- Completion for bash, on its builtins alone: commands, their options, the words or files that options take,
-- names after `tarn help`, else files.

local script = [==[
# Completion of tarn for bash; made by `tarn reference --as bash`.

_tarn_files() {
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$1")
}

_tarn_words() {
    mapfile -t COMPREPLY < <(compgen -W "$2" -- "$1")
}

_tarn() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command='' options='' i
    COMPREPLY=()
    # --option=value: readline makes three words of it
    if [[ $cur == = ]]; then
        cur=''
    elif [[ $prev == = && $COMP_CWORD -ge 2 ]]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    # The command or script is the first word that is no option of the program and no value of one.
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            @valued@)
                [[ ${COMP_WORDS[i + 1]} == = ]] && ((i++))
                ((i++))
                ;;
            -e) return ;;
            -*) ;;
            *) command=${COMP_WORDS[i]}; break ;;
        esac
    done
    case $command:$prev in
@values@    esac
    case $command in
@commands@        help)
            _tarn_words "$cur" '@names@'
            return ;;
        '')
            if [[ $cur == -* ]]; then
                _tarn_words "$cur" '@flags@ -e -i --help --version'
            else
                _tarn_files "$cur"
                mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -W '@all@ help' -- "$cur")
            fi
            return ;;
        *) _tarn_files "$cur"; return ;;
    esac
    if [[ $cur == -* ]]; then
        _tarn_words "$cur" "$options @flags@ --help"
    else
        _tarn_files "$cur"
    fi
}

complete -F _tarn tarn
]==]

local function value_line(pattern, kind)
  local what = kind == "file" and '_tarn_files "$cur"; ' or kind and ("_tarn_words \"$cur\" '%s'; "):format(
    table.concat(kind, " ")) or ""
  return ("        %s) %sreturn ;;\n"):format(pattern, what)
end

local function names_of(options)
  local names = {}
  for _, o in ipairs(options) do
    for _, name in ipairs(o.names) do
      if not name:find "^%-%-%u" then names[#names + 1] = name end -- --NAME: any name
    end
  end
  return names
end

return function(commands, flags, docs)
  local valued, values, cases, all, names = {}, {}, {}, {}, {}
  for _, f in ipairs(flags) do
    if f.value then
      valued[#valued + 1] = f.names[1]
      values[#values + 1] = value_line("*:" .. f.names[1], f.kind)
    end
  end
  for i, c in ipairs(commands) do
    all[i], names[i] = c.name, c.name
    for _, o in ipairs(c.options) do
      for _, name in ipairs(o.value and o.names or {}) do
        values[#values + 1] = value_line(c.name .. ":" .. name, o.kind)
      end
    end
    cases[i] = ("        %s) options='%s' ;;\n"):format(c.name, table.concat(names_of(c.options), " "))
  end
  for _, d in ipairs(docs) do names[#names + 1] = d.name end
  local parts = { valued = table.concat(valued, "|"), values = table.concat(values), commands = table.concat(cases),
    names = table.concat(names, " "), flags = table.concat(names_of(flags), " "), all = table.concat(all, " ") }
  return (script:gsub("@(%a+)@", parts))
end
