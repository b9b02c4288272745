#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every example prints what its .expected file holds, with any number of threads. Those on Fashion-MNIST
# are for test_slow_fashion.sh.
#   test_examples.sh TARN
tarn=$1
cd "$(dirname "$0")/../.." || exit 1
status=0
for script in examples/*.lua; do
    case $script in *-fashion-*) continue ;; esac
    for threads in 1 3; do
        if ! "$tarn" --threads $threads "$script" 2>&1 | diff "${script%.lua}.expected" - >/tmp/tarn-example.$$; then
            echo "$script with $threads threads:"
            cat /tmp/tarn-example.$$
            status=1
        fi
    done
done
rm -f /tmp/tarn-example.$$
exit $status
