#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Files of strangers at the command line: what their names and texts would tell a terminal is shown and not sent,
# what is wrong with them is one line, and no failure is taken for an answer.
# usage: test_strangers.sh PATH_OF_TARN
set -u
tarn=$1
data=$(cd "$(dirname "$0")/../../examples/data" && pwd)
work=$(mktemp -d) || exit 1
. "$(dirname "$0")/check.sh"
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export XDG_CACHE_HOME="$work/cache"

# Nothing that a terminal obeys: ESC, and U+009B and U+202E, which are two and three bytes.
esc=$(printf '\033')
csi=$(printf '\302\233')
turn=$(printf '\342\200\256')
harmless() {
    case "$out$err" in *"$esc"* | *"$csi"* | *"$turn"*) wrong 'a terminal would obey this' ;; esac
}

# ---- names ----

name='\27[31mx\u{9b}m\u{202e}\n.layers'
run "$tarn" -e "for k, shape in ipairs { { 2, 2 }, { 2, 3 }, { 2, 2 } } do
  model.new { { '$name.0.w', tensor.full(shape, k) }, { '$name.1.w', tensor.full(shape, k) } }:save('m' .. k) end
local f = io.open('m1/config.json', 'w') f:write '{\"model_type\": \"\\\\u001b[31m\\\\u009b\"}' f:close()"
is 0 '' ''
cat >sum.lua <<'END2'
merge.linear { model.open "m1", model.open "m3", weight = { 0.5, 0.5 } }:save "sum"
END2
run "$tarn" --quiet sum.lua;       is 0 '' ''; harmless
run "$tarn" inspect m1;            is 0 '*type \\x1B\[31m\\xC2\\x9B*layers \\x1B*depth 0-1*' ''; harmless
run "$tarn" plan sum.lua;          is 0 '*\\x1B\[31mx\\xC2\\x9Bm\\xE2\\x80\\xAE\\x0A.layers.0.w f32\[2, 2]*' ''; harmless
run "$tarn" diff m1 m2;            is 1 '*2 different*' ''; harmless
run "$tarn" doctor sum --all;      is 0 '*x1B*' ''; harmless
run "$tarn" replay sum;            is 0 '*the same bytes' ''; harmless
run "$tarn" -e 'return model.open "m1" + model.open "m2"'
is 1 '' '*\\x1b\[31mx\\xc2\\x9bm\\xe2\\x80\\xae*ShapeMismatch]'; harmless
run "$tarn" inspect "m$esc[2J";    is 1 '' 'tarn: m\\x1b\[2J: there is no such file or folder*'; harmless
run "$tarn" -e "warn '\27[31m'";   is 0 '' 'tarn: warning: \\x1b\[31m'
# Values of a tensor that differ from what the plan makes: its name is in the report.
run "$tarn" --quiet -e "local f = io.open('sum/model.safetensors', 'r+b') f:seek('end', -4) f:write '\0\0\0\0' f:close()"
run "$tarn" replay sum;            is 1 '\\x1b\[31mx*: other bytes*sum: different' ''; harmless

# A recipe's words, a lock's.
cat >words.lua <<'END2'
return recipe { name = "x", summary = "\27[31m\n\u{9b}", inputs = { a = { "\27[32m", doc = "\u{202e}" } },
  build = function(m) return m.a end }
END2
run "$tarn" run words.lua --help;  is 0 '*\\x1B\[31m*\\x1B\[32m*\\xE2\\x80\\xAE*' ''; harmless
cat >half.lua <<'END2'
return recipe { name = "half", inputs = { a = {} }, build = function(m) return 0.5 * (m.a + m.a) end }
END2
run "$tarn" lock half.lua --a m1;  is 0 '*written' ''
printf '{"format": "\\u001b[31m", "\\u009b": 1}' >half.lock
run "$tarn" lock half.lua --a m1 --check; is 2 '' '*is not a lock*'; harmless
run "$tarn" lock half.lua --a m1;  is 0 '*written' ''
run "$tarn" lock half.lua --a m3 --check; is 1 '*inputs.a*' ''

# ---- what is no file of its kind ----

printf '\033Lua' >code.lua
for trust in '' --untrusted; do
    # shellcheck disable=SC2086
    run "$tarn" run code.lua --a m1 --dry-run $trust
    is 1 '' 'tarn: code.lua: attempt to load a binary chunk: scripts are text'
done
run "$tarn" code.lua;              is 1 '' 'tarn: code.lua: attempt to load a binary chunk: scripts are text'
run "$tarn" -e 'model.open "m1\0m2"'
is 1 '' "tarn: input:1: 'm1' followed by a zero byte is no path"
run "$tarn" -e "local m = model.open 'm1' m:save 'new\\0m2'"; is 1 '' '*is no path'
[ -e new ] && wrong 'something was written under half a name'
echo 'return 1' >whole.lua
while read -r text; do
    run "$tarn" -e "local m, p = model.open 'm1', 'whole.lua\0' $text"
    is 1 '' "*'*' followed by a zero byte is no path*"
done <<'END2'
loadfile(p)
dofile(p)
require 'whole\0'
io.open(p)
io.open(p, 'w')
io.lines(p)
io.input(p)
io.output(p)
os.remove(p)
os.rename(p, 'other')
os.rename('whole.lua', 'other\0')
m:stage '.\0'
m:plan { time = '.\0' }
model.replay('sum', { input = { m1 = 'm1\0' } })
model.recall('sum', { input = { ['m1\0'] = 'm1' } })
recipe.lock('half.lua', { input = { a = 'm1\0' } })
END2
run "$tarn" -e "model.open 'm1':save('new', { files = { ['tokenizer.json\0'] = '{}' } })"
is 1 '' "*'tokenizer.json' is no side file*"
if [ -e new ] || [ "$(cat whole.lua)" != 'return 1' ]; then wrong 'half a name was acted on'; fi
# The standard functions still speak for themselves.
run "$tarn" -e "io.lines 'absent'";     is 1 '' "tarn: input:1: cannot open file 'absent' (*"
run "$tarn" -e "io.open()";             is 1 '' "*input:1: bad argument #1 to 'open' (string expected, got no value)*"

# A config that cannot be read is left aside: which one it is is said once.
cp -r m1 broken
for text in '{"a": 1,#line 2: *' '[1]#it holds no object'; do
    echo "${text%#*}" >broken/config.json
    run "$tarn" -e 'local m = model.open "broken" return #(m:only "0" - model.open "m3":only "0"):names()'
    is 0 1 "tarn: warning: broken/config.json is left aside: ${text#*#}"
    [ "$(echo "$err" | wc -l)" = 1 ] || wrong 'not one line'
done

cp -r "$work/m1" t1
run "$tarn" --quiet -e "model.new { { 'model.embed_tokens.weight', tensor.ones({ 4, 2 }) } }:save 't2'"
printf '{"added_tokens": [true], "model": {"vocab": {"a": 0}}}' >t2/tokenizer.json
printf 'models: [{model: t2, parameters: {weight: 1}}]\nmerge_method: linear\ntokenizer: {source: union}\n' >t.yml
run "$tarn" merge t.yml out;       is 1 '' 'tarn: t.yml:3: tokenizer.json of t2: an added token without id and content'
rm t2/tokenizer.json
printf '[1]' >t2/tokenizer_config.json
printf '{"a": 0}' >t2/vocab.json
: >t2/merges.txt
run "$tarn" merge t.yml out;       is 0 '*' '*'
rm -r out t2/merges.txt
ln -s /dev/zero t2/merges.txt # has no end
run "$tarn" merge t.yml out;       is 1 '' 'tarn: t.yml:3: t2/merges.txt: more than 256 MiB, which is no text'

# ---- a failure is no answer ----

for command in 'diff m1 m2' 'replay sum' 'verify sum' 'lint sum.lua' 'lock half.lua --a m1 --check'; do
    # shellcheck disable=SC2086
    run "$tarn" $command --time 1ms;    is 2 '' 'tarn: time limit reached \[TimeLimit]'
    # shellcheck disable=SC2086
    run "$tarn" $command --memory 100k; is 2 '' 'tarn: out of memory: *\[OutOfMemory]'
done
run "$tarn" inspect m1 --memory 100k;   is 1 '' 'tarn: out of memory: *\[OutOfMemory]'

# ---- limits that are there before ----

run sh -c "ulimit -f 1; '$tarn' reference >page"; is 1 '' 'tarn: print: cannot write the output: File too large'
run sh -c "ulimit -f 1; '$tarn' help run >page && '$tarn' help merge >>page"
is 1 '' 'tarn: cannot write the output: File too large'
if [ -z "$("$tarn" -e 'return 1' 2>&1 >/dev/null)" ] && (ulimit -v 1000000 && "$tarn" --version) >/dev/null 2>&1; then
    run sh -c "ulimit -v 1000000; '$tarn' run half.lua --no-lock --a m1 --untrusted --dry-run"
    is 0 'plan:*' ''
fi

[ "$failures" -eq 0 ] || exit 1
