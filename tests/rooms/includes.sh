#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every #include "room/…" of the tree against the block of arrows in docs/architecture.md, the only
# place that states them. Arrows are transitive. lua.h and its kin only where the block allows.
# Usage: includes.sh SOURCE_DIR
set -eu
cd "$1"
rules=$(sed -n '/^```rooms$/,/^```$/p' docs/architecture.md | grep -v '^```')
[ -n "$rules" ] || { echo "docs/architecture.md has no block of rooms"; exit 1; }
find vm merge stdlib -name '*.[ch]' -exec grep -H '^ *# *include' {} + |
awk -v rules="$rules" '
function room_of(path,   best, r) {
    best = ""
    for (r in below) if (index(path, r "/") == 1 && length(r) > length(best)) best = r
    return best
}
BEGIN {
    n = split(rules, line, "\n")
    for (i = 1; i <= n; i++) {
        split(line[i], half, ":")
        sub(/ +$/, "", half[1])
        if (half[1] == "lua.h") { lua = half[2] " "; continue }
        below[half[1]] = half[2]
        order[++rooms] = half[1]
    }
    for (i = 1; i <= rooms; i++) {           # a room stands after those it may see
        k = split(below[order[i]], to, " ")
        for (j = 1; j <= k; j++) {
            if (!(to[j] in below)) { print "unknown room " to[j]; bad = 1 }
            sees[order[i], to[j]] = 1
            for (m = 1; m < i; m++) if ((to[j], order[m]) in sees) sees[order[i], order[m]] = 1
        }
        sees[order[i], order[i]] = 1
    }
}
{
    colon = index($0, ":")
    file = substr($0, 1, colon - 1)
    text = substr($0, colon + 1)
    room = room_of(file)
    if (room == "") { print file ": stands in no room of docs/architecture.md"; bad = 1; next }
    if (text ~ /[<"](lua|lauxlib|lualib|luaconf)\.h[>"]/ && index(lua, " " room " ") == 0) {
        print file ": lua.h is not for " room; bad = 1
    }
    if (split(text, part, "\"") < 3) next
    other = room_of(part[2])
    if (other == "") {
        if (part[2] !~ /^[^\/]*$/ && part[2] !~ /^generated\//) { print file ": includes " part[2] ", of no room"; bad = 1 }
        next
    }
    seen++
    if (!((room, other) in sees)) { print file ": " room " includes " part[2] " of " other; bad = 1 }
}
END {
    if (seen < 100) { print "only " seen " includes were found: the test looks at the wrong place"; bad = 1 }
    exit bad
}'
