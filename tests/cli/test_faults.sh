#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What goes wrong around a merge: full disks, folders and files that may not be touched, inputs that
# change, outputs that exist, stops, memory that does not suffice. Always one clear line and its exit
# code, no half file under the final name, no temporary, and never a byte of an input changed.
# test_slow_faults.sh has what takes many runs.
# usage: test_faults.sh PATH_OF_TARN
set -u
tarn=$1
data=$(cd "$(dirname "$0")/../../examples/data" && pwd)
work=$(mktemp -d) || exit 1
. "$(dirname "$0")/check.sh"
disk=
finish() {
    [ -n "$disk" ] && umount "$disk"
    chmod -R u+rwx "$work"
    rm -rf "$work"
}
trap finish EXIT
cd "$work" || exit 1
chmod 755 "$work"
export XDG_CACHE_HOME="$work/cache"
export TARN_DIGESTS=off

# holds FOLDER NAME…: exactly these names, hidden ones too.
holds() {
    tests=$((tests + 1))
    folder=$1
    shift
    want=$(printf '%s\n' "$@" | sort | tr '\n' ' ')
    have=$(ls -A "$folder" | LC_ALL=C sort | tr '\n' ' ')
    [ "$have" = "$want" ] || { [ $# = 0 ] && [ -z "$have" ]; } ||
        wrong "$folder holds: $have
  wanted: $want"
}
digest() { (cd "$1" && find . -type f -exec sha256sum {} + | LC_ALL=C sort | sha256sum); }
# unchanged FOLDER DIGEST
unchanged() {
    tests=$((tests + 1))
    [ "$(digest "$1")" = "$2" ] || wrong "$1 is not as it was"
}

mkdir in in/base in/low o
cp "$data/base.safetensors" in/base/model.safetensors
cp "$data/low.safetensors" in/low/model.safetensors
echo '{"model_type": "digits", "torch_dtype": "float32"}' >in/base/config.json
inputs=$(digest in)
soup='merge.linear { model.open "in/base", model.open "in/low" }'
save() { run "$tarn" --quiet -e "($soup):save($1)"; }

# ---- where the output goes ----

save '"o/m"';                       is 0 '' ''
holds o m
holds o/m README.md config.json model.safetensors tarn-provenance.json
merged=$(digest o/m)
save '"o/m"';                       is 1 '' 'tarn: *o/m: this folder holds a model already (config.json)*hint: overwrite = true*\[OutputExists]'
unchanged o/m "$merged"
run "$tarn" --quiet -e 'model.open("in/low"):save("o/m", { overwrite = true })'
is 0 '' ''
save '"o/m", { overwrite = true }'; is 0 '' ''
unchanged o/m "$merged"
save '"o/m.safetensors"';           is 0 '' ''
save '"o/m.safetensors"';           is 1 '' 'tarn: *o/m.safetensors: this file exists already*\[OutputExists]'
save '"o/m.safetensors", { overwrite = true }'
is 0 '' ''
save '"o/m/"';                      is 1 '' 'tarn: *o/m: *\[OutputExists]'
save '""';                          is 1 '' 'tarn: *the name of the output is empty \[InvalidName]'
save '"o/m.safetensors/x"';         is 1 '' 'tarn: *o/m.safetensors*Not a directory \[IoError]'
save '"/dev/null"';                 is 1 '' 'tarn: */dev/null: this is a file, where a folder is to be written*'
save '"/proc/nowhere/m"';           is 1 '' 'tarn: */proc/nowhere: cannot make this folder: *\[IoError]'
holds o m m.safetensors
rm -r o/m o/m.safetensors

cat >merge.yml <<'END'
merge_method: linear
models: [{model: in/base}, {model: in/low}]
parameters: {weight: 0.5}
END
run "$tarn" merge --quiet merge.yml o/m;         is 0 '' ''
run "$tarn" merge --quiet merge.yml o/m;         is 1 '' 'tarn: *o/m: this folder holds a model already*\[OutputExists]'
run "$tarn" merge --quiet --force merge.yml o/m; is 0 '' ''
holds o m
rm -r o/m

# In an input's folder; over an input: the new model is whole, and made of what the input held.
save '"in/base/new"';               is 0 '' ''
rm -r in/base/new
unchanged in "$inputs"
cp -r in/base o/base
run "$tarn" --quiet -e 'm = model.open "o/base"; ((m - model.open "in/low") + m):save "o/base"'
is 1 '' 'tarn: *o/base: this folder holds a model already*'
twice='local m, low = model.open "o/base", model.open "in/low" ; local r = m + (m - low)'
run "$tarn" --quiet -e "$twice r:save('o/base', { overwrite = true }) low = m - model.open 'in/base' print(low:norm())
print((r - model.open 'o/base'):norm())"
is 0 '0.0
0.0' ''
holds o base
run "$tarn" --quiet -e 'local m, low = model.open "in/base", model.open "in/low" print(((m + (m - low)) - model.open "o/base"):norm())'
is 0 '0.0' ''
rm -r o/base

# Links: one to a file is replaced itself, one to a folder is followed.
ln -s ../in/low/model.safetensors o/link.safetensors
ln -s nowhere o/dangling
mkdir o/real
ln -s real o/alias
save '"o/link.safetensors"';        is 1 '' 'tarn: *o/link.safetensors: this file exists already*'
save '"o/link.safetensors", { overwrite = true }'
is 0 '' ''
[ -h o/link.safetensors ] && wrong 'the link is still one'
save '"o/dangling"';                is 1 '' 'tarn: *o/dangling: this is a link that leads nowhere \[InvalidName]'
save '"o/alias"';                   is 0 '' ''
holds o alias dangling link.safetensors real
holds o/real README.md config.json model.safetensors tarn-provenance.json
unchanged in "$inputs"
rm -r o/*

# ---- what may not be read or written ----

user=
if [ "$(id -u)" != 0 ]; then
    user=env
elif setpriv --reuid=65534 --regid=65534 --clear-groups "$tarn" --version >/dev/null 2>&1; then
    user='setpriv --reuid=65534 --regid=65534 --clear-groups'
else
    echo 'skipped: permissions (root, and no setpriv or a program that others may not run)'
fi
if [ -n "$user" ]; then
    chmod 777 o
    mkdir o/locked
    cp in/low/model.safetensors o/secret.safetensors
    chmod 555 o/locked
    chmod 000 o/secret.safetensors
    run $user "$tarn" --quiet -e "($soup):save 'o/locked/m'"
    is 1 '' 'tarn: *o/locked/m: cannot make a temporary beside it: Permission denied \[IoError]'
    run $user "$tarn" --quiet -e "($soup):save 'o/locked/a/b/m'"
    is 1 '' 'tarn: *o/locked/a: cannot make this folder: Permission denied \[IoError]'
    run $user "$tarn" --quiet -e "($soup):save 'o/locked/m.safetensors'"
    is 1 '' 'tarn: *o/locked/m.safetensors: cannot make a temporary beside it: Permission denied \[IoError]'
    run $user "$tarn" --quiet -e '(model.open "in/base" + 0 * model.open "o/secret.safetensors"):save "o/m"'
    is 1 '' 'tarn: *o/secret.safetensors: cannot be opened: Permission denied \[OpenFailed]'
    holds o/locked
    chmod 755 o/locked
    holds o locked secret.safetensors
    chmod 755 o
    rm -r o/*
fi
run "$tarn" --quiet -e 'model.open "in/none"';  is 1 '' 'tarn: *in/none: *\[NotFound]'
mkdir in/empty
run "$tarn" --quiet -e 'model.open "in/empty"'; is 1 '' 'tarn: *in/empty: holds no .safetensors file*'
rmdir in/empty
mkfifo pipe.safetensors
run "$tarn" --quiet -e 'model.open "pipe.safetensors"'
is 1 '' 'tarn: *pipe.safetensors: is not a regular file \[NotAFile]'
head -c 50000 in/low/model.safetensors >short.safetensors
run "$tarn" --quiet -e 'model.open "short.safetensors"'
is 1 '' 'tarn: *short.safetensors: *truncated \[MetadataIncompleteBuffer]'

# ---- inputs that change between the header and the last byte ----

# change COMMAND: on o/x.safetensors, after it was opened.
change() {
    cp in/low/model.safetensors o/x.safetensors
    run "$tarn" --quiet -e "local m = merge.linear { model.open 'in/base', model.open 'o/x.safetensors' }
os.execute [[$1]] m:save 'o/m'"
}
change 'truncate -s 40000 o/x.safetensors'
is 1 '' 'tarn: *o/x.safetensors: has become shorter since it was opened: *\[FileChanged]'
change 'truncate -s 0 o/x.safetensors'
is 1 '' 'tarn: *o/x.safetensors: *\[FileChanged]'
change 'echo more >>o/x.safetensors'
is 1 '' 'tarn: *o/x.safetensors: had * bytes when it was opened and now has * \[FileChanged]'
change 'cp in/base/model.safetensors o/x.safetensors'
is 1 '' 'tarn: *o/x.safetensors: *\[FileChanged]'
change 'touch o/x.safetensors'
is 1 '' 'tarn: *o/x.safetensors: was written to since it was opened \[FileChanged]'
holds o x.safetensors
change 'rm o/x.safetensors'         # what was opened can be read to the end
is 0 '' ''
rm -r o/*

# ---- stops ----

# 128 MB: long enough to be met half way.
"$tarn" --quiet -e 'local t = tensor.randn({ 4096, 4096 }, 1)
model.new { { "a", t }, { "b", t } }:save("big.safetensors")' || wrong 'no big model'
long='(model.open "big.safetensors" + 0.5 * (model.open "big.safetensors" - 2 * model.open "big.safetensors"))'
for at in 0.05 0.15 0.25; do
    for way in INT:130 TERM:143; do
        run timeout --preserve-status -s "${way%:*}" $at "$tarn" --quiet -e "$long:save 'o/m'"
        # Before there is a handler the signal has its own effect; a fast machine has finished by then.
        [ $code = 0 ] && rm -r o/m && continue
        [ -n "$err" ] || err='tarn: [ended]'
        is "${way#*:}" '' '*tarn: *\[*ed]'
        # All of it, where the signal came after the rename, or nothing.
        [ -e o/m ] && "$tarn" --quiet inspect o/m >/dev/null 2>&1 && rm -r o/m
        holds o
    done
done
run "$tarn" --quiet --time 0.1s -e "while true do $long:save('o/m', { overwrite = true }) end"
is 1 '' 'tarn: *time limit reached*\[TimeLimit]'
ls -A o | grep -q part && wrong "the time limit leaves $(ls -A o)"
rm -rf o/m

# ---- two at once ----

both() {  # OPTIONS
    "$tarn" --quiet -e "($soup):save('o/m'$1)" 2>first.txt &
    first=$!
    "$tarn" --quiet -e "model.open('in/low'):save('o/m'$1)" 2>second.txt
    second=$?
    wait $first
    first=$?
}
shown='two saves at once'
for i in 1 2 3 4 5; do
    both ''
    case $first$second in
    01 | 10) grep -q 'OutputExists' first.txt second.txt || wrong "$(cat first.txt second.txt)" ;;
    *) wrong "exit codes $first, $second: $(cat first.txt second.txt)" ;;
    esac
    holds o m
    both ', { overwrite = true }'
    [ $first$second = 00 ] || wrong "exit codes $first, $second: $(cat first.txt second.txt)"
    holds o m
    "$tarn" replay --quiet o/m >/dev/null || wrong 'what two saves left cannot be replayed'
    rm -r o/m
done

# ---- memory, room ----

for size in 1M 2M 3M; do
    run "$tarn" --quiet --memory $size --threads 2 -e "$long:save 'o/m'"
    is 1 '' 'tarn: *out of memory: *--memory*\[OutOfMemory]'
done
run "$tarn" --quiet --memory 20M -e "local m = $long:load()"
is 1 '' 'tarn: *out of memory: *--memory*\[OutOfMemory]'
holds o
run "$tarn" --quiet --memory 20M --threads 2 -e "$long:save 'o/m'"
is 0 '' ''
rm -r o/m
run sh -c "ulimit -f 20; exec '$tarn' --quiet -e '($soup):save \"o/m\"'"
is 1 '' 'tarn: *o/m: needs a file of *; this process may write files of * at most (ulimit -f) \[NoSpace]'
head -c 200000 /dev/zero >in/base/tokenizer.json
run sh -c "ulimit -f 300; exec '$tarn' --quiet -e '($soup):save \"o/m\"'"
is 1 '' 'tarn: *o/m/tokenizer.json: cannot write * bytes at byte *: File too large \[IoError]'
holds o

mkdir disk
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=64k tarn-test disk 2>/dev/null; then
    disk=$work/disk
    save '"disk/m"';                is 1 '' 'tarn: *disk/m: needs *, and 65.5 kB are free on its file system \[NoSpace]'
    save '"disk/m.safetensors"';    is 1 '' 'tarn: *disk/m.safetensors: needs *\[NoSpace]'
    holds disk
    # The weights fit, the tokenizer does not.
    mount -o remount,size=200k disk
    save '"disk/m"';                is 1 '' 'tarn: *disk/m/tokenizer.json: cannot write * bytes at byte *: No space left on device \[NoSpace]'
    holds disk
    # Room is there when it is asked for, and gone when it is needed.
    mount -o remount,size=1m disk
    run "$tarn" --quiet -e 'local m = model.open "in/base"
m:map(function(t) return t * 2 end):save "disk/m"'
    is 0 '' ''
    old=$(digest disk/m)
    mount -o remount,size=360k disk
    save '"disk/m", { overwrite = true }'
    is 1 '' 'tarn: *disk/m*\[NoSpace]'
    holds disk m
    unchanged disk/m "$old"
    run "$tarn" --quiet -e "local m = ($soup):stage 'disk'"
    is 0 '' ''
    dd if=/dev/zero of=disk/rest bs=4k >/dev/null 2>&1
    run "$tarn" --quiet -e "local m = ($soup):stage 'disk'"
    is 1 '' 'tarn: *NoSpace*'
    holds disk m rest
    rm disk/rest
    # A run whose disk becomes full: the checkpoint before stands, whole, and the run goes on from it.
    cat >fit.lua <<'END'
local path, steps, fill = arg[1], math.tointeger(arg[2]), arg[3]
local d, net = data.two_moons { n = 200, seed = 1 }, nn.mlp { 2, 64, 64, 2 }
local o = { steps = steps, batch = 50, lr = 0.01, checkpoint = { path = path .. "/run.safetensors", every = 3 }, seed = 1,
  resume = true, log = path .. "/run.csv" }
local population = path:find "many" ~= nil
o.callbacks = not population and { step = function(info)
  if fill and info.step == 5 then os.execute("dd if=/dev/zero of=disk/rest bs=1k >/dev/null 2>&1") end
end } or nil
if population then
  o.members, o.share = 2, function(_, info)
    if fill and info.step == 5 then os.execute("dd if=/dev/zero of=disk/rest bs=1k >/dev/null 2>&1") end
  end
  print(train.population(net, d, o)[2]:norm())
else
  print((train.fit(net, d, o)):norm())
end
END
    mount -o remount,size=900k disk
    for name in one many; do
        mkdir disk/$name o/$name
        run "$tarn" --quiet fit.lua o/$name 9;          is 0 '*' ''
        whole=$out
        run "$tarn" --quiet fit.lua disk/$name 9 fill;  is 1 '' "tarn: *disk/$name/run.safetensors: *\[NoSpace]"
        tests=$((tests + 1))
        "$tarn" --quiet inspect disk/$name/run.safetensors >/dev/null || wrong 'the checkpoint before is not whole'
        ls -A disk/$name | grep -q part && wrong "a full disk leaves $(ls -A disk/$name)"
        rm disk/rest
        run "$tarn" --quiet fit.lua disk/$name 9;       is 0 "$whole" ''
        rm -r disk/$name
    done
    # The log has no room: that is told by name.
    mkdir disk/log
    dd if=/dev/zero of=disk/rest bs=1k >/dev/null 2>&1
    run "$tarn" --quiet fit.lua disk/log 9;             is 1 '' 'tarn: *disk/log/run.csv*No space left on device*'
    rm -r disk/log disk/rest
    umount disk && disk=
else
    echo 'skipped: a full disk (needs root and mount)'
fi
rm in/base/tokenizer.json

# ---- standard output ----

if [ -w /dev/full ]; then
    full() { run sh -c "$* >/dev/full"; }
    full "'$tarn' inspect in/base";            is 1 '' 'tarn: *cannot write the output: No space left on device'
    full "'$tarn' inspect --json in/base";     is 1 '' 'tarn: *cannot write the output: No space left on device'
    full "'$tarn' diff in/base in/low";        is '[12]' '' 'tarn: *cannot write the output: No space left on device'
    full "'$tarn' merge --plan merge.yml o/m"; is 1 '' 'tarn: *cannot write the output: No space left on device'
    full "'$tarn' merge --quiet merge.yml o/m"; is 0 '' ''
    full "'$tarn' replay o/m";                 is '[12]' '' 'tarn: *cannot write the output: No space left on device'
fi

unchanged in "$inputs"
echo "$tests tests, $failures failed"
[ "$failures" = 0 ]
