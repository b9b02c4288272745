#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The examples on Fashion-MNIST print what their .expected files hold, numbers to within 0.7: they are per
# cents of 5000 images, after training, which goes by the matrix products of the BLAS library at hand. Between networks
# trained apart (13) such roundings grow: there to within 6. Skipped without Debian's dataset-fashion-mnist.
#   test_slow_fashion.sh TARN
tarn=$1
cd "$(dirname "$0")/../.." || exit 1
if ! said=$("$tarn" -e 'data.fashion_mnist()' 2>&1); then
    echo "skipped: $said"
    case $said in *dataset-fashion-mnist*) exit 0 ;; esac
    exit 1
fi
status=0
out=$(mktemp) || exit 1
for script in examples/*-fashion-*.lua; do
    "$tarn" --quiet "$script" >"$out" 2>&1 || status=1
    case $script in */13-*) within=6 ;; *) within=0.7 ;; esac
    awk -v name="$script" -v within=$within '
        NR == FNR { want[NR] = $0; n = NR; next }
        { m++; k = split(want[m], w); bad = k != NF
          for (i = 1; i <= NF && !bad; i++) {
              bad = $i ~ /^-?[0-9]+\.[0-9]$/ ? ($i - w[i]) ^ 2 > within ^ 2 : $i != w[i]
          } }
        bad { print name ": expected " want[m] "\n        got      " $0; wrong = 1 }
        END { if (m != n) print name ": " m + 0 " lines, expected " n; exit wrong || m != n }
    ' "${script%.lua}.expected" "$out" || status=1
done
rm -f "$out"
exit $status
