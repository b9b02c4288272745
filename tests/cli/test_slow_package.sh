#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The Debian package: made by cpack from the build folder, installed into an empty root by dpkg, run from there,
# removed without a trace; and that its dependencies name the package of every library that it opens. Skipped
# without dpkg, and where the build has sanitizers, which no package has.
#   test_slow_package.sh TARN
tarn=$1
build=$(cd "$(dirname "$tarn")" && pwd)
if ! command -v dpkg-shlibdeps >/dev/null || ! command -v cpack >/dev/null || [ ! -f "$build/CPackConfig.cmake" ] ||
    grep -q '^TARN_SANITIZE:STRING=.' "$build/CMakeCache.txt"; then
    echo "skipped: dpkg-dev and cpack are needed, and a build without sanitizers"
    exit 0
fi
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
failures=0
fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}
(cd "$build" && cpack -G DEB --config CPackConfig.cmake -B "$folder/made") >"$folder/log" 2>&1 ||
    { cat "$folder/log"; exit 1; }
deb=$(ls "$folder"/made/*.deb)
[ -f "$deb" ] || { echo "no package"; exit 1; }
case $(basename "$deb") in tarn_[0-9]*_amd64.deb) ;; *) fail "its name is $deb" ;; esac

# ---- into an empty root ----

root=$folder/root
mkdir -p "$root/var/lib/dpkg/updates" "$root/var/lib/dpkg/info"
: >"$root/var/lib/dpkg/status"
admin() {
    dpkg --root="$root" --log=/dev/null --force-depends --force-script-chrootless --force-not-root "$@" >>"$folder/log" 2>&1
}
if [ "$(id -u)" = 0 ]; then
    admin -i "$deb" || { cat "$folder/log"; exit 1; }
    dpkg --root="$root" -s tarn | grep -q '^Status: install ok installed' || fail "dpkg does not call it installed"
else
    dpkg-deb -x "$deb" "$root" || exit 1
fi
there=$root/usr/bin/tarn
[ "$("$there" -e 'print(tarn.version)')" = "$("$tarn" -e 'print(tarn.version)')" ] || fail "the version"
readelf -S "$there" | grep -q '\.debug_info' && fail "the program is not stripped"
cd "$root/usr/share/doc/tarn" || exit 1
[ "$("$there" examples/1-look.lua)" = "$(cat examples/1-look.expected)" ] || fail "an example"
"$there" -e 'print(tensor.eye(3):matmul(tensor.eye(3)):sum())' | grep -qx 3.0 || fail "a matrix product"
[ -s copyright ] && [ -s language.md ] || fail "documents"
"$tarn" reference --as man | cmp -s - "$root/usr/share/man/man1/tarn.1" || fail "the man page is not that of the program: build the target all first"
bash -n "$root/usr/share/bash-completion/completions/tarn" || fail "completion for bash"
for file in share/zsh/vendor-completions/_tarn share/tarn/luals/tarn.lua; do
    [ -s "$root/usr/$file" ] || fail "$file is not there"
done
! command -v zsh >/dev/null || zsh -n "$root/usr/share/zsh/vendor-completions/_tarn" || fail "completion for zsh"
[ -z "$(find "$root/usr" -perm /022 ! -type l)" ] || fail "others may write: $(find "$root/usr" -perm /022 ! -type l)"

# ---- dependencies ----

depends=$(dpkg-deb -f "$deb" Depends)
for library in $(readelf -d "$there" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p'); do
    package=$(dpkg -S "*/x86_64-linux-gnu/$library" 2>/dev/null | sed -n "1s/:.*//p")
    case ", $depends" in *", $package"*) ;; *) fail "$library of $package is not among: $depends" ;; esac
done
case $depends in *'libopenblas0-pthread | libopenblas0-serial'*) ;; *) fail "BLAS is not among: $depends" ;; esac

# ---- and out of it ----

if [ "$(id -u)" = 0 ]; then
    cd / && admin -P tarn || fail "it cannot be removed"
    [ -z "$(find "$root/usr" -type f 2>/dev/null)" ] || fail "left behind: $(find "$root/usr" -type f)"
fi
[ "$failures" = 0 ]
