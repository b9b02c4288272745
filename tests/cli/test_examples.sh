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
# What the quickstart offers to try next is there.
next=$(sed -n '/^To try next:/,/^END/p' scripts/quickstart)
[ "$(echo "$next" | grep -c 'build/tarn')" -ge 4 ] || { echo "the quickstart says nothing of what to try next"; status=1; }
for path in $(echo "$next" | grep -oE '(examples|docs)/[a-zA-Z0-9./-]+'); do
    [ -e "$path" ] || { echo "the quickstart names $path, which is not there"; status=1; }
done
for command in $(echo "$next" | sed -n 's!^ *build/tarn \([a-z]*\) .*!\1!p'); do
    "$tarn" help "$command" >/dev/null || { echo "the quickstart names the command $command"; status=1; }
done
exit $status
