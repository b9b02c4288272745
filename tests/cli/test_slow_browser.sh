#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A page of `tarn doc` in a browser: it stands as written, a picture can be taken of it, and nothing that a script
# holds or prints runs there. The same text put into a page as it is does run, so the browser would have told.
# Skipped without Chromium.
#   test_slow_browser.sh TARN
tarn=$1
browser=$(command -v chromium || command -v chromium-browser) || { echo "skipped: no chromium"; exit 0; }
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
failures=0
fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}
look() {
    timeout 120 "$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$folder/profile" \
        --window-size=900,1400 "$@" 2>>log
}

cat >hostile.lua <<'END'
-- # Page <script>document.title = "taken 1"</script>
--
-- <img src=x onerror='document.title = "taken 2"'> [x](javascript:document.title=1)
--
-- | a | b |
-- |---|--:|
-- | 1 | 2 |
local text = "<script>document.title = 'taken 3'</script></pre><img src=x onerror=\"document.title = 'taken 4'\">"
print(text)
print({ { "x", text }, { 1, 2 } })
print(plot.line { x = { 1, 2, 3 }, { text, { 1, 4, 9 } }, { "b", { 9, 4, 1 } }, title = "</svg>" .. text })
error(text)
END
"$tarn" doc hostile.lua >/dev/null 2>&1 && fail "the script's error does not count"
look --dump-dom "file://$folder/hostile.html" >dom
grep -q '<title>Page &lt;script&gt;' dom || fail "title: $(grep '<title>' dom)"
grep -Eq '<script|<img' dom && fail "markup came through: $(grep -E '<script|<img' dom | head -n 2)"
[ "$(grep -o '<svg xmlns' dom | wc -l)" = 1 ] && [ "$(grep -o '<table' dom | wc -l)" = 2 ] &&
    [ "$(grep -o '<pre class="error"' dom | wc -l)" = 1 ] || fail "not the elements that were written"
look --screenshot="$folder/page.png" "file://$folder/hostile.html" >/dev/null
[ "$(head -c 4 page.png | tail -c 3)" = PNG ] && [ "$(wc -c <page.png)" -gt 20000 ] || fail "no picture, or an empty one"

echo "<title>Page</title><script>document.title = 'taken'</script>" >open.html
look --dump-dom "file://$folder/open.html" | grep -q '<title>taken</title>' || fail "this browser runs nothing: no test"
# And a page's own policy stops what an escape forgot.
sed 's|</body>|<script>document.title = "taken"</script></body>|' hostile.html >slip.html
look --dump-dom "file://$folder/slip.html" | grep -q '<title>taken' && fail "the policy line stops nothing"
[ "$failures" = 0 ] || cat log
[ "$failures" = 0 ]
