-- SPDX-License-Identifier: Apache-2.0
-- The page that `tarn doc` writes: one file, no script, nothing from elsewhere. Its policy line forbids the
-- browser both, so that text which slipped through as markup could not do anything either.

local escape, markdown, source = require "doc.escape", require "doc.markdown", require "doc.source"

local style = [[
body { max-width: 52rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.55 sans-serif;
  color: #222; background: #fff; }
h1, h2, h3 { line-height: 1.25; margin: 1.6em 0 0.5em; }
pre, code { font-family: monospace; font-size: 0.92em; }
pre { overflow-x: auto; padding: 0.7em 0.9em; margin: 0.7em 0; line-height: 1.4;
  background: #f5f5f3; border-radius: 4px; }
pre.out { background: none; border-left: 3px solid #0072b2; border-radius: 0; }
pre.error { background: #fdf0ec; border-left: 3px solid #d55e00; border-radius: 0; white-space: pre-wrap; }
table { border-collapse: collapse; margin: 0.8em 0; }
th, td { padding: 0.25em 0.8em; border-bottom: 1px solid #ddd; text-align: left; }
th { border-bottom: 2px solid #999; }
.right { text-align: right; font-variant-numeric: tabular-nums; }
.center { text-align: center; }
figure { margin: 1em 0; overflow-x: auto; }
figure svg { max-width: 100%; height: auto; }
blockquote { margin: 0.8em 0; padding-left: 1em; border-left: 3px solid #ccc; color: #555; }
a { color: #0060a0; }
.k { color: #8a2a6b; } .s { color: #12653f; } .n { color: #8a4500; } .c { color: #666; font-style: italic; }
footer { margin: 3em 0 1em; padding-top: 0.6em; border-top: 1px solid #ddd; font-size: 0.85em; color: #666; }
]]

local generator = '<meta name="generator" content="tarn doc">'

local head = [[
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
%s
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>%s</title>
<style>
%s</style>
</head>
<body>
]]

-- p: cells (as doc/cells.lua makes them, `out` a sink of doc/values.lua), name, version, failed.
local function html_of(p)
  local parts, title = {}, nil
  local function add(html)
    if html ~= "" then parts[#parts + 1] = html end
  end
  for _, cell in ipairs(p.cells) do
    if cell.prose then
      local html, found = markdown(cell.prose)
      title = title or found
      add(html)
    else
      add('<pre class="code">' .. source(cell.code) .. "</pre>")
      add(cell.out.html())
    end
  end
  add(p.cells.rest.html())
  add(("<footer>%s, run by tarn %s%s</footer>"):format(escape(p.name), escape(p.version),
    p.failed and "; it failed" or ""))
  return head:format(generator, escape(title or p.name), style) .. table.concat(parts, "\n") .. "\n</body>\n</html>\n"
end

return { html = html_of, generator = generator }
