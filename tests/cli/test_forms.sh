#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What is made of the help texts: the man page, completion for bash and zsh, definitions for LuaLS. Each has
# every command, option and name, and works where its program is installed.
#   test_forms.sh TARN
tarn=$1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
failures=0
fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}
for form in man bash zsh luals; do
    "$tarn" reference --as "$form" >"$folder/$form" || fail "reference --as $form"
done
"$tarn" reference --as info >/dev/null 2>&1
[ $? = 2 ] || fail "an unknown form is wrong usage"
commands=$("$tarn" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
[ -n "$commands" ] || fail "no commands"
cd "$folder" || exit 1

# ---- man: every line of `tarn --help` and of each command's help that has words is in it ----

# Words only: filling moves lines, and roff has marks of its own.
words() {
    sed 's/\\f[BIR]//g; s/\\&//g; s/\\-/-/g; s/\\e/\\/g; s/^\.[A-Z]* *//; s/…/.../g' | tr -s ' \n' '  '
}
words <man >man.words
has() {
    tr -s ' \n' '  ' | sed 's/…/.../g; s/^ *//; s/ *$//' | grep . >wanted || return
    grep -qF -f wanted man.words || fail "tarn(1) lacks: $(cat wanted)"
}
"$tarn" --help | sed -n 's/^ *\(usage: \)\{0,1\}tarn \(.*\)/tarn \2/p' | sed 's/   .*//' | while read -r line; do
    echo "$line" | has
done
"$tarn" --help | sed -n '/^Options/,$s/^  \(--[a-z]*.*\)/\1/p' | while read -r line; do echo "$line" | has; done
for command in $commands; do
    "$tarn" help "$command" | sed '1s/^usage: //' | awk -v RS= '{ print > ("part" NR) }'
    sed -i '/^Options:$/d' part*
    for part in part*; do # options are whole: a list a command
        if grep -q '^  *-' "$part"; then sed 's/^  *\(-[^ ].*\)/\1/' "$part" | words >whole
        else words <"$part" >whole; fi
        has <whole
    done
    rm -f part*
    grep -q "^\.SS tarn $command" man || fail "tarn(1) has no section on $command"
done
if command -v nroff >/dev/null; then
    nroff -man -ww man 2>warnings | sed 's/.\x08//g' >page
    [ -s warnings ] && fail "nroff warns: $(head -n 3 warnings)"
    grep -q 'EXIT STATUS' page || fail "the page as text"
fi

# ---- bash: the function is called as the shell would ----

if command -v bash >/dev/null; then
    mkdir files
    touch files/one.lua 'files/a model.safetensors'
    complete_bash() { # words… -> what is offered for the last
        bash -c 'source ./bash; cd files; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tarn; printf "%s\n" "${COMPREPLY[@]}"' \
            bash "$@" | sort | tr '\n' ',' | sed 's/,$//'
    }
    offers() { # wanted words…
        wanted=$1
        shift
        got=$(complete_bash "$@")
        case $got in $wanted) ;; *) fail "bash: $*: '$got', not '$wanted'" ;; esac
    }
    offers 'plan,plane' tarn pla
    offers 'replay' tarn repl
    offers 'a model.safetensors,*,help,*,one.lua,*' tarn ''
    offers '--threads,--time,--traceback' tarn --t
    offers '--rtol' tarn diff --rt
    offers '--all,--any-dtype,--atol' tarn --threads 2 diff x --a
    offers 'a model.safetensors' tarn diff a
    offers 'v1,v3,v4' tarn --isa ''
    offers 'v3' tarn --isa = v3
    offers 'v1,v3,v4' tarn inspect --isa =
    offers '' tarn diff --rtol ''
    offers 'a model.safetensors,one.lua' tarn doc -o ''
    offers 'merge.ties' tarn help merge.tie
    offers 'a model.safetensors,one.lua' tarn one.lua ''
    for command in $commands; do
        "$tarn" help "$command" | sed -n 's/^  \(-[^ ].*\)/\1/p' | sed 's/   *.*//' | grep -o -- '--*[a-z][a-z-]*' |
            while read -r option; do
                case ,$(complete_bash tarn "$command" "$option"), in
                    *,$option,*) ;;
                    *) fail "bash: $command lacks $option" ;;
                esac
            done
    done
fi

# ---- zsh ----

for command in $commands; do
    grep -q "^        $command) _arguments" zsh || fail "zsh lacks $command"
done
if command -v zsh >/dev/null; then
    zsh -n zsh || fail "zsh: syntax"
    cat >drive.zsh <<'END'
zmodload zsh/zpty
zpty shell zsh -f -i
step() { # what is typed; what the screen shows then
  zpty -w -n shell "$1"
  local got='' piece
  repeat 600; do
    sleep 0.05
    while zpty -r -t shell piece; do got+=$piece; done
    [[ -n $2 && $got == *$2* ]] && break
  done
  print -r -- "$got"
}
step $'PS1="> "; fpath=($PWD/comp $fpath); autoload -Uz compinit; compinit -u -D; print $((41+1))x\n' 42x >/dev/null
step "$1" "$2"
END
    mkdir comp
    cp zsh comp/_tarn
    # What is typed, then a tab; what the shell adds.
    for pair in 'tarn refer ence' 'tarn diff --an y-dtype' 'tarn help merge.tie s' 'tarn --is a' 'tarn diff --rt ol'; do
        typed=${pair% *}
        shown=${pair##* }
        zsh -f drive.zsh "$typed	" "$typed$shown" >screen 2>&1
        tail -n 1 screen | tr -d "\007" | grep -q -- "$typed$shown" || fail "zsh: $typed: $(cat -v screen)"
    done
fi

# ---- LuaLS: a valid chunk with every name ----

cat >names.lua <<'END'
local text = io.open "luals":read "a"
assert(load(text, "=luals", "t", {}))
for _, d in ipairs(tarn.docs()) do
  local plain = d.name:gsub("%p", "%%%0")
  local found = text:find("\nfunction " .. plain .. "%(") or text:find("\n" .. plain .. " = nil\n")
    or text:find("\n%-%- " .. plain .. ": ") or text:find("\n%-%-%-@class " .. plain .. "\n")
  if not found then error(d.name .. " is not in the definitions", 0) end
  local called = d.signature:match "^[%w_.:]+[({ ]+%s*[^%-]" and d.signature:find "^[%w_.:]+ ?[({]"
  if called and not text:find("\nfunction " .. plain .. "%(") and not text:find("\n%-%-%-@class " .. plain .. "\n") then
    error(d.name .. " is no function in the definitions", 0)
  end
end
assert(text:find("\n%-%-%-@class merge.ties.options\n.-\n%-%-%-@field density%? any = 0.2\n"))
assert(text:find("\n%-%-%-@param options merge.ties.options\n%-%-%-@return model\nfunction merge.ties%(options%) end\n"))
assert(text:find("\n%-%-%-@param path any\n.-function model.open%(path"))
END
"$tarn" names.lua || fail "LuaLS definitions"

[ "$failures" = 0 ]
