-- SPDX-License-Identifier: Apache-2.0
-- hub:organisation/name@revision in the local cache of the Hugging Face hub. Nothing is downloaded: what
-- is not there is an error that says which command brings it.
--
--     models--ORG--NAME/refs/main            the commit that a branch or tag stood for when it was fetched
--     models--ORG--NAME/snapshots/COMMIT/    its files (links into blobs/)

local hub = {}

local function plain(word)
  return word and word:find "^[%w_][%w._-]*$" and not word:find("..", 1, true)
end

-- "hub:org/name@rev" -> { repository = "org/name", revision = "rev" or nil }, or nil.
function hub.parse(source)
  local repository, revision = source:match "^hub:([^@]+)@(.+)$"
  repository = repository or source:match "^hub:([^@]+)$"
  local org, name = (repository or ""):match "^([^/]+)/([^/]+)$"
  if not (plain(org) and plain(name)) then return nil end
  if revision and (not revision:find "^[%w_][%w._/-]*$" or revision:find("..", 1, true)) then return nil end
  return { repository = repository, revision = revision }
end

local function set(name)
  local value = os.getenv(name)
  return value and value ~= "" and value
end

-- The cache's folder: $HF_HUB_CACHE, $HF_HOME/hub, $XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub.
function hub.folder()
  local home = set "HF_HOME"
  local cache = set "XDG_CACHE_HOME" or (set "HOME" and set "HOME" .. "/.cache")
  return set "HF_HUB_CACHE" or (home and home .. "/hub") or (cache and cache .. "/huggingface/hub")
end

local function first_line(path)
  local file = io.open(path, "r")
  if not file then return nil end
  local line = file:read "l"
  file:close()
  return line and line:match "^%s*(%S+)%s*$"
end

local function is_folder(path)
  local file = io.open(path .. "/.", "r")
  if file then file:close() end
  return file ~= nil
end

-- find(source) -> path of the snapshot, commit; raises with the command that downloads it.
function hub.find(source)
  local want = hub.parse(source)
  local cache = hub.folder()
  local revision = want.revision or "main"
  local folder = cache and cache .. "/models--" .. want.repository:gsub("/", "--")
  local commit = folder and (first_line(folder .. "/refs/" .. revision) or revision)
  if commit and commit:find "^[%w_][%w._-]*$" and is_folder(folder .. "/snapshots/" .. commit) then
    return folder .. "/snapshots/" .. commit, commit
  end
  error(string.format("%s is not in the cache (%s); this downloads it:\n  hf download %s%s", source,
    cache or "no home directory", want.repository, want.revision and " --revision " .. want.revision or ""), 0)
end

return hub
