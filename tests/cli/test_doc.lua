-- SPDX-License-Identifier: Apache-2.0
-- tarn doc: what a page is made of, that nothing a script holds or prints becomes markup, that failures are
-- shown, and the small Markdown.
local markdown, source, cells_of = require "doc.markdown", require "doc.source", require "doc.cells"
local escape = require "doc.escape"
local tests = 0

local function equal(got, want, what)
  tests = tests + 1
  if got ~= want then error(("%s:\n%s\ninstead of\n%s"):format(what or "differs", tostring(got), tostring(want)), 2) end
end

-- ---- Markdown ----

local function md(text)
  local lines = {}
  for line in (text .. "\n"):gmatch "(.-)\n" do lines[#lines + 1] = line end
  return (markdown(lines))
end
for _, case in ipairs {
  { "# A `b`\ntext", "<h1>A <code>b</code></h1>\n<p>text</p>" },
  { "## Two ##", "<h2>Two</h2>" },
  { "one\ntwo\n\nthree", "<p>one\ntwo</p>\n<p>three</p>" },
  { "- a\n- b\n  more", "<ul>\n<li>a</li>\n<li>b\nmore</li>\n</ul>" },
  { "1. a\n2. b", "<ol>\n<li>a</li>\n<li>b</li>\n</ol>" },
  { "```lua\n# *x*\n```\ny", "<pre># *x*</pre>\n<p>y</p>" },
  { "> so\n> it is", "<blockquote><p>so\nit is</p></blockquote>" },
  { "---", "<hr>" },
  { "|a|b|c|\n|--|--:|:-:|\n|1\\|2|`3`|", '<table><thead><tr><th>a</th><th class="right">b</th><th class="center">c</th></tr>'
    .. '</thead><tbody>\n<tr><td>1|2</td><td class="right"><code>3</code></td><td class="center"></td></tr></tbody></table>' },
  { "| no table |", "<p>| no table |</p>" },
  { "*a* **b *c* d** e*f 2 * 3 * 4", "<p><em>a</em> <strong>b <em>c</em> d</strong> e*f 2 * 3 * 4</p>" },
  { "snake_case_name \\*x\\* `` a`b `` ` open", "<p>snake_case_name *x* <code>a`b</code> ` open</p>" },
  { "[t *u*](https://x.org/?a=1&b=2) [p](page.html#q) <https://y.org>", '<p><a href="https://x.org/?a=1&amp;b=2" '
    .. 'rel="noreferrer">t <em>u</em></a> <a href="page.html#q" rel="noreferrer">p</a> <a href="https://y.org" '
    .. 'rel="noreferrer">https://y.org</a></p>' },
  -- what is no address, or one that would run something, stays text
  { "[a](javascript:x) [b](JaVaScRiPt:x) [c](data:text/html,x) [d]()", "<p>[a](javascript:x) [b](JaVaScRiPt:x) "
    .. "[c](data:text/html,x) [d]()</p>" },
  { '[a](https://x" onclick="y) [b](x\'y)', "<p>[a](https://x&quot; onclick=&quot;y) [b](x&#39;y)</p>" },
  { "<b>&amp; <script>", "<p>&lt;b&gt;&amp;amp; &lt;script&gt;</p>" },
} do
  equal(md(case[1]), case[2], case[1])
end
equal(escape "a\0\27\xFFé\n", "a\\x00\\x1B\\xFF\\xC3\\xA9\n")
equal(escape "é <", "é &lt;")
equal(source "local s = [[<]] -- '", '<span class="k">local</span> s = <span class="s">[[&lt;]]</span> <span class="c">-- &#39;</span>')
do -- the text of source comes out whole, whatever it is
  local text = io.open "tests/cli/test_doc.lua":read "a"
  for _, part in ipairs { text, text:sub(4000, 9000), "'", '"\\', "--[[", "[==[", "0x", "1e", "-", "" } do
    equal((source(part):gsub("</?span[^>]*>", "")), escape(part), "source")
  end
end

-- ---- cells ----

local function shape(text)
  local out = {}
  for i, cell in ipairs((cells_of(text, "mark"))) do
    out[i] = cell.prose and "prose " .. table.concat(cell.prose, "|") or "code " .. cell.code:gsub("\n", "|")
  end
  return table.concat(out, "; ")
end
equal(shape "-- a\n--\n-- b\nx = 1\n\n-- c\ny = 2", "prose a||b; code x = 1; prose c; code y = 2")
equal(shape "#!/usr/bin/tarn\n-- SPDX-License-Identifier: x\n-- a\nx = 1", "prose a; code x = 1")
equal(shape "function f()\n-- a\nend", "code function f()|-- a|end")
equal(shape "t = {\n-- a\n}", "code t = {|-- a|}")
equal(shape "s = [[\n-- a\n]]", "code s = [[|-- a|]]")
equal(shape "x = a\n-- a\n+ b", "code x = a|-- a|+ b")
equal(shape "---@type x\nx = 1", "code ---@type x|x = 1")
equal(shape "x = = 1\n-- a", "code x = = 1|-- a")
equal(select(2, cells_of("-- a\nlocal x = f\n-- b\n(g)()", "mark")), ";mark(2);\nlocal x = f\n;mark(4);\n(g)()")

-- ---- pages ----

local folder = os.tmpname()
os.remove(folder)
assert(os.execute("mkdir '" .. folder .. "'"))
local function doc(name, text, more)
  local file <close> = assert(io.open(folder .. "/" .. name, "wb"))
  file:write(text)
  file:close()
  local pipe = io.popen(("t=$(readlink /proc/$PPID/exe); cd '%s' && $t doc %s %s 2>&1; echo $?"):format(folder, name, more or ""))
  local said = pipe:read "a"
  pipe:close()
  local page <close> = io.open(folder .. "/" .. name:gsub("lua$", "html"), "rb")
  return page and page:read "a" or "", said
end

-- The elements of the body, with classes; spans and what is inside drawings left out.
local function skeleton(page)
  local body = page:match "<body>(.*)</body>":gsub("<svg.-</svg>\n</figure>", "<svg></figure>"):gsub("</?span[^>]*>", "")
  local out = {}
  for tag, class in body:gmatch '<(%w+)%s?([^>]*)>' do
    out[#out + 1] = tag .. (class:match 'class="(%w+)"' and "." .. class:match 'class="(%w+)"' or "")
  end
  return table.concat(out, " ")
end

do
  local page, said = doc("tour.lua", [=[
#!/usr/bin/env tarn
-- SPDX-License-Identifier: Apache-2.0
-- # A <b>tour
--
-- Hostile *prose* <script>alert(1)</script> [x](javascript:alert(2)).
local x = "<img src=x onerror=alert(3)>"
print("x", x, nil, 1.5)
io.write("no ", "newline")
io.stdout:write(", the end\n")

-- Tables.
print({ { "name", "</td>" }, { "a", 1 }, { "b", 2.5 } })
print({ { n = "<i>", v = 1 }, { v = 2 } })
print({ width = 3, list = { 1, 2 } })

-- Figures: printed, drawn and returned.
local fig = plot.line { x = { 1, 2 }, { "<u>", { 1, 2 } }, title = "</svg><script>" }
print("before", fig, "after")
fig:print()

-- Forged.
print(setmetatable({ svg = function() return "<script>" end }, { __name = "figure", __tostring = function() return "<q>" end }))
coroutine.wrap(function() print "\27[31mred\xFF" end)()
print(pcall(error, "&"))
print(...)
return fig, x
]=], "one '<two>'")
  equal(said, "tour.html\n0\n")
  equal(skeleton(page), "h1 p em pre.code pre.out p pre.code table thead tr th th.right tbody tr td td.right tr td td.right "
    .. "table thead tr th th.right tbody tr td td.right tr td td.right table tbody tr td td tr td td p pre.code pre.out "
    .. "figure svg pre.out figure svg p pre.code pre.out figure svg pre.out footer")
  equal(select(2, page:gsub("<script", "")), 0, "scripts")
  equal(select(2, page:gsub("<%w+[^>]-%son%w+=", "")), 0, "handlers")
  equal(select(2, page:gsub("https?://", "")), 3, "addresses: those that name SVG, a figure each")
  assert(page:find("<title>A &lt;b&gt;tour</title>", 1, true), "title")
  assert(page:find("x\t&lt;img src=x onerror=alert(3)&gt;\tnil\t1.5\nno newline, the end</pre>", 1, true), "text")
  assert(page:find("&lt;/svg&gt;&lt;script&gt;</text>", 1, true), "title of a figure")
  assert(page:find("&lt;q&gt;\n\\x1B[31mred\\xFF\nfalse\t&amp;\none\t&lt;two&gt;</pre>", 1, true), "forged")
  assert(page:find("<td>list</td><td>1, 2</td>", 1, true), "lists in a table")
  local again
  again, said = doc("tour.lua", "print(1)")
  equal(said, "tour.html\n0\n", "our page is replaced")
  equal(skeleton(again), "pre.code pre.out footer")
end

do -- failures: the page holds what was done before
  local page, said = doc("fail.lua", "-- Good.\nprint(1)\n-- Bad.\nlocal function f() error '<boo>' end\nprint(2)\nf()\n-- Never.\nprint(3)")
  equal(said, "tarn: fail.lua:4: <boo>\n1\n")
  equal(skeleton(page), "p pre.code pre.out p pre.code pre.out pre.error p pre.code footer")
  assert(page:find("<pre class=\"error\">fail.lua:4: &lt;boo&gt;</pre>", 1, true))
  assert(page:find "; it failed</footer>")
  page, said = doc("syntax.lua", "-- Good.\nx = = 1\n")
  equal(said, "tarn: syntax.lua:2: unexpected symbol near '='\n1\n")
  equal(skeleton(page), "p pre.code pre.error footer")
  -- os.exit ends the page too, whatever is around it
  page, said = doc("exit.lua", "print(1)\npcall(coroutine.wrap(function() pcall(os.exit, 3) end))\n-- Never.\nprint(2)")
  equal(said, "3\n")
  equal(skeleton(page), "pre.code pre.out pre.error p pre.code footer")
  assert(page:find('<pre class="error">the script called os.exit(3)</pre>', 1, true))
  page, said = doc("exit.lua", "print(1)\nos.exit()\n")
  equal(said, "exit.html\n0\n")
  equal(skeleton(page), "pre.code pre.out footer")
  page, said = doc("exit.lua", "print(os.time() > 0, pcall(os.exit, 'a'))")
  equal(said, "exit.html\n0\n")
  assert(page:find "true\tfalse\tbad argument #1 to &#39;exit&#39;")
  equal(select(2, doc("absent.lua", "print(1)", "-o /nowhere/page.html")),
    "tarn: cannot open /nowhere/page.html: No such file or directory\n1\n")
  os.remove(folder .. "/syntax.html")
  assert(os.execute(("echo mine >'%s/syntax.html'"):format(folder)))
  page, said = doc("syntax.lua", "print(1)")
  equal(said, "tarn: syntax.html is there, and is no page of tarn doc: -o names another\n1\n")
  equal(page, "mine\n")
end

do -- much output is cut, and said to be
  local page = doc("much.lua", 'for i = 1, 100 do print(("x"):rep(9999)) end')
  assert(#page < 3e5 and page:find "… and 737856 bytes more</pre>", page:sub(-200))
  local t = {}
  page = doc("rows.lua", 'local t = {} for i = 1, 600 do t[i] = { i } end print(t)')
  assert(#t == 0 and page:find "<p>… and 100 more rows</p>")
end

os.execute("rm -rf '" .. folder .. "'")
print(tests .. " tests")
