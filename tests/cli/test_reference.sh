#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# docs/reference.md is what `tarn reference` prints, and every link in it leads somewhere.
#   test_reference.sh TARN
tarn=$1
cd "$(dirname "$0")/../.." || exit 1
made=$(mktemp) || exit 1
trap 'rm -f "$made"' EXIT
"$tarn" reference >"$made" || exit 1
if ! diff docs/reference.md "$made"; then
    echo "docs/reference.md is out of date; refresh it with: build/tarn reference >docs/reference.md"
    exit 1
fi

# Anchors by GitHub's rule: lower case, without punctuation, "-1" after the second of two equal ones.
sed -n '/^```/,/^```/d; s/^##* //p' docs/reference.md | tr 'A-Z ' 'a-z-' | tr -dc 'a-z0-9_\n-' |
    awk '{ print n[$0]++ ? $0 "-" n[$0] - 1 : $0 }' | sort >"$made"
grep -o '](#[^)]*)' docs/reference.md | tr -d '](#)' | sort | comm -23 - "$made" | grep . &&
    echo "these links lead nowhere" && exit 1
exit 0
