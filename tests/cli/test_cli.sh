#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The command line: what is run, what is printed where, exit codes, signals, limits.
# usage: test_cli.sh PATH_OF_TARN

tarn=$1
work=$(mktemp -d) || exit 1
. "$(dirname "$0")/check.sh"
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
unset TARN_ISA

newline='
'

# ---- lines, scripts, standard input ----

run "$tarn" -e 'print(1)';                       is 0 '1' ''
run "$tarn" -e '1 + 1, "a"';                     is 0 "2$newline\"a\"" ''
run "$tarn" -e 'x = 1';                          is 0 '' ''
run "$tarn" -e 'print(#arg, arg[1], arg[2])' a --quiet b
is 0 '2	a	b' ''
run "$tarn" -e 'tarn.options.quiet' --quiet;     is 0 'true' ''
run "$tarn" --quiet -e 'tarn.options.quiet';     is 0 'true' ''
run "$tarn" -e 'local t = {';                    is 1 '' 'tarn: input:1: *near <eof>'
run "$tarn" -e;                                  is 2 '' 'tarn: option -e needs a value: -e CODE'

cat >args.lua <<'EOF'
#!/usr/bin/env tarn
print(arg[0], ...)
return 3
EOF
run "$tarn" args.lua a --quiet -- '' b;          is 0 'args.lua	a	--quiet	--		b' ''
run "$tarn" --quiet --threads 1 -- args.lua -x;  is 0 'args.lua	-x' ''
mkdir sub
echo 'return { name = "beside" }' >sub/other.lua
echo 'print(require("other").name)' >sub/main.lua
run "$tarn" sub/main.lua;                        is 0 'beside' ''
run sh -c "echo 'print(\"in\", ...)' | '$tarn' - a b"
is 0 'in	a	b' ''
run sh -c "echo 'print(\"in\")' | '$tarn'";      is 0 'in' ''
run sh -c "printf 'x = 20\nx + 1\nerror \"e\"\nx + 2\n' | '$tarn' -i"
is 0 "21${newline}22" 'tarn: input:1: e'
echo 'shared = 5' >first.lua
run sh -c "echo 'shared + 1' | '$tarn' -i first.lua"
is 0 '6' ''
run sh -c "echo 'shared + 1' | '$tarn' -e 'shared = 6' -i"
is 0 '7' ''

# ---- words that mean nothing ----

run "$tarn" --thread 2 args.lua;    is 2 '' "tarn: unknown option '--thread'; did you mean '--threads'?"
run "$tarn" --zzz;                  is 2 '' "tarn: unknown option '--zzz' (tarn --help lists them)"
run "$tarn" --threads;              is 2 '' 'tarn: option --threads needs a value: --threads N'
run "$tarn" --threads 0 args.lua;   is 2 '' "tarn: option --threads: '0' is not *"
run "$tarn" --threads=x args.lua;   is 2 '' "tarn: option --threads: 'x' is not *"
run "$tarn" --memory 1x args.lua;   is 2 '' "tarn: option --memory: '1x' is not a value of the form SIZE; *"
run "$tarn" --time soon args.lua;   is 2 '' "tarn: option --time: 'soon' is not *"
run "$tarn" --isa v9 args.lua;      is 2 '' "tarn: option --isa: 'v9' is not *"
run "$tarn" --quiet=1 args.lua;     is 2 '' 'tarn: option --quiet takes no value'
run "$tarn" arg.lua;                is 2 '' "tarn: no such file: 'arg.lua'; did you mean 'args.lua'?"
run "$tarn" sub/mian.lua;           is 2 '' "tarn: no such file: 'sub/mian.lua'; did you mean 'sub/main.lua'?"
run "$tarn" hlep;                   is 2 '' "tarn: no such command or file: 'hlep'; did you mean 'help'?"
run "$tarn" qqqqqqq;                is 2 '' "tarn: no such command or file: 'qqqqqqq'"
run "$tarn" sub;                    is 1 '' 'tarn: sub is a folder, not a script *'
run "$tarn" help tarn.verson;       is 2 '' "tarn: no command or name 'tarn.verson'; did you mean 'tarn.version'?"
if [ "$(id -u)" != 0 ]; then
    echo 'print(1)' >locked.lua
    chmod 000 locked.lua
    run "$tarn" locked.lua;         is 1 '' 'tarn: cannot open locked.lua: Permission denied *'
fi

# ---- help and version ----

run "$tarn" --version;              is 0 'tarn [0-9]*.[0-9]*.[0-9]* (Lua 5.4.*, kernels for x86-64 v[134], *)' ''
run "$tarn" --help;                 is 0 'usage: tarn *--threads N*Exit codes: *' ''
run "$tarn" help;                   is 0 'usage: tarn *' ''
run "$tarn" help tarn.version;      is 0 'tarn.version -> string*' ''

# ---- values of options ----

run "$tarn" --memory 64M -e 'tarn.options.memory';       is 0 '67108864' ''
run "$tarn" --memory 1.5GiB -e 'tarn.options.memory';    is 0 '1610612736' ''
run "$tarn" --memory=200MB -e 'tarn.options.memory';     is 0 '200000000' ''
run "$tarn" --hold 1k -e 'tarn.options.hold';            is 0 '1024' ''
run "$tarn" --time 1.5m -e 'tarn.options.time';          is 0 '90.0' ''
run "$tarn" --threads 3 -e 'tarn.options.threads';       is 0 '3' ''
run "$tarn" --isa v1 -e 'tarn.options.isa';              is 0 '"v1"' ''

# ---- errors and exit codes ----

printf 'local function f()\n  error "boo"\nend\nf()\n' >error.lua
run "$tarn" error.lua;              is 1 '' 'tarn: error.lua:2: boo'
run "$tarn" --traceback error.lua;  is 1 '' "tarn: error.lua:2: boo${newline}stack traceback:*error.lua:4: in main chunk*"
run "$tarn" -e 'error({})';         is 1 '' 'tarn: table'
run "$tarn" -e 'error()';           is 1 '' 'tarn: *'
run "$tarn" -e 'local t; t.x = 1';  is 1 '' "tarn: input:1: attempt to index a nil value (local 't')"
run "$tarn" -e 'printt(1)';         is 1 '' "tarn: input:1: undefined global 'printt'; did you mean 'print'?"
run "$tarn" -e 'print(1) os.exit(7)';                    is 7 '1' ''
run "$tarn" -e 'os.exit(true)';                          is 0 '' ''
run "$tarn" -e 'pcall(os.exit, 3) print "never"';        is 3 '' ''
run "$tarn" -e 'tarn.exit_on_error(2) error("told", 0)'; is 2 '' 'tarn: told'
run "$tarn" --time 0.2s -e 'while true do end';          is 1 '' 'tarn: time limit reached \[TimeLimit]'
run "$tarn" --memory 16M -e 'local t = {} for i = 1, 1e9 do t[i] = i end'
is 1 '' 'tarn: out of memory: * \[OutOfMemory]'
run "$tarn" --memory 64M -e 'local s = "x" while true do s = s .. s end'
is 1 '' 'tarn: *'
if [ -w /dev/full ]; then
    run sh -c "'$tarn' -e 'print(1)' >/dev/full"
    is 1 '' 'tarn: input:1: print: cannot write the output: No space left on device'
    run sh -c "'$tarn' --help >/dev/full"
    is 1 '' 'tarn: cannot write the output: No space left on device'
fi

# A closed standard stream stays closed: no file takes its place.
run sh -c "'$tarn' -e 'local f = io.open(\"taken\", \"w\") print(1)' >&-"
is 1 '' 'tarn: input:1: print: cannot write the output: Bad file descriptor'
run cat taken;                      is 0 '' ''
run sh -c "'$tarn' <&-";            is 1 '' 'tarn: cannot read standard input: Bad file descriptor *'

# ---- signals ----

# stop SIGNAL CODE: sends the signal after a moment. A background job of sh ignores INT, so `timeout`
# sends it.
stop() {
    signal=$1
    run timeout --preserve-status -s "$signal" 0.3 "$tarn" -e "$2"
}
stop INT 'while true do end';                             is 130 '' '*tarn: interrupted \[Interrupted]'
stop TERM 'while true do end';                            is 143 '' 'tarn: terminated \[Terminated]'
stop HUP 'while true do end';                             is 129 '' 'tarn: hung up \[HangUp]'
stop INT 'coroutine.wrap(function() while true do end end)()'
is 130 '' '*tarn: interrupted *'
stop INT 'while true do pcall(function() while true do end end) end'
is 130 '' '*tarn: interrupted *'
stop INT 'local t <close> = setmetatable({}, { __close = function() print "closed" end }) while true do end'
is 130 '*' '*tarn: interrupted *'
stop INT 'local f = io.popen("sleep 5") f:read("a")';     is 130 '' '*tarn: interrupted *'
run sh -c "mkfifo pipe; timeout --preserve-status -s INT 0.3 '$tarn' - <pipe & sleep 0.8 >pipe; wait \$!"
is 130 '' '*tarn: interrupted *'
run sh -c "'$tarn' -e 'for i = 1, 1e7 do print(i) end' | head -n 1"
is 0 '1' ''
run sh -c "nohup '$tarn' --time 0.6s -e 'while true do end' & sleep 0.2; kill -HUP \$!; wait \$!"
is 1 '' '*time limit reached*'

# Deaf to its own timer, the loop never sees the stop: the second Ctrl-C after a second ends it.
if env --block-signal=RTMIN --default-signal=INT true 2>/dev/null; then
    run sh -c "env --block-signal=RTMIN --default-signal=INT '$tarn' -e 'while true do end' & sleep 0.3
        kill -INT \$!; sleep 0.1; kill -INT \$!; sleep 1; kill -INT \$!; wait \$!"
    is 130 '' '*tarn: stopping (Ctrl-C again *tarn: ended at once; *'
fi

# ---- arguments of commands: stdlib's command module ----

cat >parse.lua <<'EOF'
local text = [[
try A [B]: a trial
--
-- Options:
--   --rtol X            a number
--   --limit N           an integer
--   -o, --out PATH      where
--   --input NAME=DIR…   several
--   --dry-run           a flag]]
local args = require("command").parse(arg, text)
print(#args, args[1], args[2], args.rtol, args.limit, args.out, args.dry_run,
  args.input and table.concat(args.input, ","))
EOF
run "$tarn" parse.lua a b --rtol 1e-3 --limit=4 -o x --dry-run --input p=q --input r=s
is 0 '2	a	b	0.001	4	x	true	p=q,r=s' ''
run "$tarn" parse.lua -- --rtol;    is 0 '1	--rtol	*' ''
run "$tarn" parse.lua;              is 2 '' 'tarn: script: A is missing (usage: tarn try A \[B])'
run "$tarn" parse.lua a b c;        is 2 '' "tarn: script: one argument too many: 'c' (usage: *"
run "$tarn" parse.lua a --rtl 1;    is 2 '' "tarn: script: unknown option '--rtl'; did you mean '--rtol'?"
run "$tarn" parse.lua a --rtol x;   is 2 '' "tarn: script: option --rtol: 'x' is not a number"
run "$tarn" parse.lua a --limit 1.5; is 2 '' "tarn: script: option --limit: '1.5' is not an integer"
run "$tarn" parse.lua a --out;      is 2 '' 'tarn: script: option --out needs a value: --out PATH'
run "$tarn" parse.lua a --dry-run=1; is 2 '' 'tarn: script: option --dry-run takes no value'

# What is found is told with its place, and fails; what is no Lua too.
echo 'return merge.ties { densty = 1 }' >lint-me.lua
echo 'return 1' >lint-fine.lua
echo 'x = = 1' >lint-broken.lua
run "$tarn" lint lint-fine.lua;     is 0 '' ''
run "$tarn" lint lint-fine.lua lint-me.lua lint-broken.lua
is 1 "lint-me.lua:1:21: merge.ties: unknown option 'densty'; did you mean 'density'?
lint-broken.lua:1:1: unexpected symbol near '='" ''
run "$tarn" lint lint-me.lua --json; is 1 '{"file":"lint-me.lua","line":1,"column":21,"message":"merge.ties: *' ''
run "$tarn" lint absent.lua;        is 2 '' 'tarn: cannot open absent.lua: No such file or directory'

# Every command's help begins with its usage.
for command in $("$tarn" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
    run "$tarn" help "$command";    is 0 "usage: tarn $command*" ''
    run "$tarn" "$command" --help;  is 0 "usage: tarn $command*" ''
    run "$tarn" "$command" --no-such-option
    is 2 '' "tarn: *'--no-such-option'*"
done

echo "$tests tests, $failures failed"
[ "$failures" = 0 ]
