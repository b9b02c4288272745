# SPDX-License-Identifier: Apache-2.0
# For tests of the command line, which source it with $work, a folder of their own, set: commands that are run, and
# what is expected of the last one. Counts tests and failures.
# shellcheck shell=sh disable=SC2034
tests=0 failures=0
shown='' out='' err='' code=0

# run COMMAND…: keeps standard output, standard error and the exit code.
run() {
    shown=$*
    out=$("$@" 2>"$work/stderr" </dev/null)
    code=$?
    err=$(cat "$work/stderr")
}

wrong() {
    failures=$((failures + 1))
    printf 'FAILED: %s\n  %s\n  out: %s\n  err: %s\n' "$shown" "$1" "$out" "$err" | cat -v
}

# is CODE OUT ERR: of the last run; all three are shell patterns.
is() {
    tests=$((tests + 1))
    ok=yes
    case $code in $1) ;; *) ok= ;; esac
    case $out in $2) ;; *) ok= ;; esac
    case $err in $3) ;; *) ok= ;; esac
    [ -n "$ok" ] || wrong "code $code, wanted $1
  wanted out: $2
  wanted err: $3"
}
