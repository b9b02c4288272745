#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Saves that are killed at random moments: kill -9 two hundred times, SIGINT forty times, each time
# over an output that holds a model. What lies under the final name is always the old model whole or
# the new one whole; the next save clears what the killed one left beside it. And inputs that shrink
# while they are read, savers that race each other for a name.
# usage: test_slow_faults.sh PATH_OF_TARN
set -u
tarn=$1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export XDG_CACHE_HOME="$work/cache"
export TARN_DIGESTS=off
failures=0
wrong() {
    failures=$((failures + 1))
    printf 'FAILED: %s\n' "$1"
}

# 16 MB each: a save takes some tens of milliseconds.
"$tarn" --quiet -e 'for i, name in ipairs { "a", "b" } do
    local t = {}
    for k = 1, 8 do t[k] = { "t" .. k, tensor.randn({ 1024, 512 }, 8 * i + k) } end
    model.new(t):save(name .. ".safetensors")
end' || exit 1
mkdir o

# recipe 1 or 2, as a file or as a folder of shards: expressions of one save.
recipe() {
    printf '(model.open "a.safetensors" + 0.%s * (model.open "b.safetensors" - model.open "a.safetensors")):save(' "$1"
    case $2 in
    file) printf '"o/m.safetensors", { overwrite = true })' ;;
    folder) printf '"o/m", { overwrite = true, max_shard_size = 5000000 })' ;;
    esac
}
digest() { (cd o && find "$1" -type f ! -name '*.txt' -exec sha256sum {} + | LC_ALL=C sort | sha256sum); }

# Delays spread over the whole life of a save, and a little after it.
delay() { od -An -N2 -tu2 /dev/urandom | awk -v most="$1" '{ printf "%.4f", $1 / 65536 * most }'; }

killed() {  # SIGNAL TIMES KIND
    case $3 in file) name=m.safetensors ;; folder) name=m ;; esac
    for k in 1 2; do
        "$tarn" --quiet -e "$(recipe $k "$3")" || wrong "recipe $k does not run"
        [ $k = 1 ] && one=$(digest $name) || two=$(digest $name)
    done
    [ "$one" != "$two" ] || wrong 'the recipes do not differ'
    [ "$3" = folder ] && echo mine >o/m/notes.txt
    begin=$(date +%s%N)
    "$tarn" --quiet -e "$(recipe 2 "$3")"
    most=$(echo "$begin $(date +%s%N)" | awk '{ printf "%.4f", ($2 - $1) / 1e9 * 1.1 }')
    now=$two
    old=0
    new=0
    i=0
    while [ $i -lt "$2" ]; do
        i=$((i + 1))
        [ "$now" = "$two" ] && k=1 || k=2
        timeout -s "$1" "$(delay "$most")" "$tarn" --quiet -e "$(recipe $k "$3")" >/dev/null 2>said.txt
        code=$?
        was=$now
        now=$(digest $name)
        if [ "$now" = "$was" ]; then
            old=$((old + 1))
        elif [ "$now" = "$one" ] || [ "$now" = "$two" ]; then
            new=$((new + 1))
        else
            wrong "$1, $3, run $i: what lies there is neither the old model nor the new one"
            break
        fi
        [ "$3" = file ] || [ "$(cat o/m/notes.txt)" = mine ] || wrong "$1, run $i: a file beside the model is lost"
        # A stop that is answered leaves nothing. (124: it was asked for; before there is a handler,
        # there is nothing to leave.)
        if [ "$1" = INT ] && ls -A o | grep -q part; then
            wrong "SIGINT, run $i (code $code, $(cat said.txt)) leaves $(ls -A o)"
        fi
    done
    "$tarn" --quiet -e "$(recipe 2 "$3")" || wrong "the save after $1 fails"
    [ "$(digest $name)" = "$two" ] || wrong "the save after $1 is not what it was"
    [ "$(ls -A o)" = "$name" ] || wrong "the save after $1 leaves $(ls -A o)"
    echo "$1, $3: $2 runs of at most $most s; $old times the old model stayed, $new times the new one was there"
    [ $old -gt 0 ] || wrong 'no save was met'
    rm -r o/$name
}
killed KILL 100 file
killed KILL 100 folder
killed INT 20 file
killed INT 20 folder

# ---- an input that shrinks while it is read ----

i=0
caught=0
while [ $i -lt 20 ]; do
    i=$((i + 1))
    cp a.safetensors x.safetensors
    "$tarn" --quiet -e 'merge.linear { model.open "x.safetensors", model.open "b.safetensors" }:save "o/x"' \
        2>said.txt &
    sleep "$(delay 0.08)"
    truncate -s $((i * 800000)) x.safetensors
    wait $!
    code=$?
    if [ $code = 0 ]; then
        rm -r o/x
    else
        caught=$((caught + 1))
        [ $code = 1 ] || wrong "shrinking: exit code $code"
        grep -Eq 'x.safetensors: .*\[(FileChanged|MetadataIncompleteBuffer|[A-Za-z]+)]$' said.txt ||
            wrong "shrinking: $(cat said.txt)"
        [ -z "$(ls -A o)" ] || wrong "shrinking leaves $(ls -A o)"
    fi
done
echo "an input that shrinks: noticed $caught of $i times"

# ---- eight savers, one name ----

for kind in file folder; do
    case $kind in file) name=m.safetensors ;; folder) name=m ;; esac
    for round in 1 2 3; do
        for k in 1 2 3 4 5 6 7 8; do
            "$tarn" --quiet --threads 1 -e "$(recipe $k $kind)" 2>said$k.txt || echo "$k: $(cat said$k.txt)" >>failed.txt &
        done
        wait
        [ -e failed.txt ] && wrong "$(cat failed.txt)"
        rm -f failed.txt
        [ "$(ls -A o)" = "$name" ] || wrong "savers in a race leave $(ls -A o)"
        "$tarn" replay --quiet o/$name --input "a=$work/a.safetensors" --input "b=$work/b.safetensors" >said.txt 2>&1 ||
            wrong "what a race left cannot be replayed: $(cat said.txt)"
    done
    rm -r o/$name
done

[ "$failures" = 0 ]
