-- SPDX-License-Identifier: Apache-2.0
-- tarn(1) as roff (man macros). Commands and options come from their own help; what is written here is what
-- no help text says.

-- A line of text: a backslash, a dash that is typed, and a dot or quote that begins a line mean roff.
local function roff(text)
  text = text:gsub("\\", "\\e"):gsub("%-", "\\-"):gsub("…", "..."):gsub("\n([.'])", "\n\\&%1")
  return (text:gsub("^([.'])", "\\&%1"))
end

local function option(o)
  local names = {}
  for i, name in ipairs(o.names) do names[i] = "\\fB" .. roff(name) .. "\\fR" end
  return (".TP\n%s%s\n%s\n"):format(table.concat(names, ", "), o.value and " \\fI" .. roff(o.value) .. "\\fR" or "",
    roff(o.text))
end

local synopsis = {
  { "[OPTION]… [SCRIPT.lua [ARGUMENT]…]", "run a script; without one, the prompt" },
  { "[OPTION]… COMMAND [ARGUMENT]…", "run a command" },
  { "-e CODE", "run a line; print the values of an expression" },
  { "-i [SCRIPT.lua …]", "run a script, then the prompt" },
  { "-", "a script from standard input" },
  { "help [COMMAND | NAME]", "on a command, or a name of the language" },
  { "--version", "print the version" },
}

local description = [[
tarn is a Lua 5.4 runtime whose scripts merge neural networks. A model is a vector of named tensors, read from
safetensors files; merging is arithmetic on such vectors. What a script writes over files is a plan: it runs when
it is saved, in blocks, and can be looked at before and replayed after.]]

local environment = {
  { "TARN_ISA", "v1, v3 or v4: the instruction set of the kernels, as --isa. Results are the same bits." },
  { "TARN_BLAS_CORE", "the core type that BLAS is opened with; results of matrix products depend on it." },
  { "TARN_DIGESTS", "off: without the digest store, which remembers the hashes of files." },
  { "XDG_CACHE_HOME", "where the digest store is kept (default: ~/.cache)." },
  { "HF_HOME, HF_HUB_CACHE", "the hub's local cache, where recipes find inputs (default: ~/.cache/huggingface)." },
  { "XDG_STATE_HOME", "where the history of the prompt is kept, in tarn/ (default: ~/.local/state)." },
  { "TMPDIR", "where temporary models are staged (default: /tmp)." },
  { "NO_COLOR", "no colours at the prompt." },
}

return function(commands, flags, version)
  local out = {}
  local function add(fmt, ...) out[#out + 1] = fmt:format(...) end
  add('.\\" Made by `tarn reference --as man`.\n.TH TARN 1 "" "tarn %s" "tarn"\n', roff(version))
  add ".SH NAME\ntarn \\- merge neural networks by Lua scripts\n.SH SYNOPSIS\n"
  for _, line in ipairs(synopsis) do add(".TP\n.B tarn %s\n%s\n", roff(line[1]), roff(line[2])) end
  add(".SH DESCRIPTION\n%s\n.PP\nThe language is described in language.md, every function in reference.md and by\n"
    .. ".BR \"tarn help\" \" \\fINAME\\fR.\n", roff(description))
  add ".SH OPTIONS\nBefore a script's name; with a command, anywhere among its arguments.\n"
  for _, f in ipairs(flags) do add("%s", option(f)) end
  add ".SH COMMANDS\n"
  for _, c in ipairs(commands) do
    add(".SS tarn %s\n%s.\n", roff(c.usage), roff(c.summary))
    for _, text in ipairs(c.paragraphs) do add(".PP\n%s\n", roff(text)) end
    for _, o in ipairs(c.options) do add("%s", option(o)) end
  end
  add ".SH EXIT STATUS\n"
  for _, row in ipairs { { "0", "done" }, { "1", "failed or refused" }, { "2", "wrong usage" },
    { "130, 143, 129", "stopped by INT, TERM, HUP" } } do
    add(".TP\n%s\n%s\n", row[1], row[2])
  end
  add ".PP\nCommands that compare answer as diff(1) does: 0 the same, 1 different, 2 could not tell.\n.SH ENVIRONMENT\n"
  for _, row in ipairs(environment) do add(".TP\n.B %s\n%s\n", row[1], roff(row[2])) end
  add ".SH EXAMPLES\n"
  for _, row in ipairs { { "tarn soup.lua", "Run a script." }, { "tarn plan soup.lua", "See what it would do." },
    { "tarn inspect model/", "See what is in a checkpoint." },
    { "tarn merge config.yml out/", "Run a configuration of mergekit." },
    { "tarn replay out/", "Make a saved model again and compare every byte." } } do
    add(".TP\n.B %s\n%s\n", roff(row[1]), row[2])
  end
  add ".SH SEE ALSO\nlua(1), diff(1)\n"
  return table.concat(out)
end
