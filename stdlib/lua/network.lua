-- SPDX-License-Identifier: Apache-2.0
-- What commands need of a network: which one it is (--net, or config.json), whether a checkpoint holds it, and the
-- data that it is measured on (--data). Said once here, so that all commands read these options alike.
--
-- NET is a name alone, as mlp (which takes its sizes from the tensors) or resnet; a name and what stands in its
-- braces, as mlp:784,512,10,act="tanh"; or a Lua file that returns a network.
--
-- DATA is fashion or digits (their training images, x/255; fashion:test and digits:test are the others), the file of
-- a table (.csv, the label in its last column), of tensors (.safetensors, with x and, where labels are needed, y),
-- IMAGES,LABELS in the format of MNIST, or a Lua file that returns a data set.
local command = require "command"
local nearest, show = require "nearest", require "show"

local network = {}

local function fail(text, ...) error(text:format(...), 0) end

local function of_file(path, option, is, what)
  local made = assert(loadfile(path))()
  if not is(made) then fail("%s %s: the file returns no %s", option, path, what) end
  return made
end

-- ---- the network ----

local function is_net(v) return type(v) == "table" and type(v.params) == "function" end

-- "784, 512, 10" of fc1.weight, fc2.weight, …
local function sizes_of(m, path)
  local has, sizes = {}, {}
  for _, name in ipairs(m:names()) do has[name] = m:info(name).shape end
  for i = 1, math.huge do
    local shape = has[("fc%d.weight"):format(i)]
    if not shape or #shape ~= 2 then break end
    sizes[i], sizes[i + 1] = shape[2], shape[1]
  end
  if #sizes == 0 then
    fail("--net mlp: %s has no fc1.weight, fc2.weight, … to take the sizes from; --net mlp:SIZES is for %s", path,
      "networks whose tensors have these names")
  end
  return table.concat(sizes, ", ")
end

-- network.of(m, path, net, option): the network of the checkpoint m, and how it is called. m may be nil where net says
-- all; option: what net stood behind ("--net").
function network.of(m, path, net, option)
  option = option or "--net"
  if not net then
    if not m:config() then
      fail("%s has no config.json that says what network it is for; give %s, as %s mlp", path, option, option)
    end
    return nn.from(m), "config.json of " .. path
  end
  if net:find "%.lua$" then return of_file(net, option, is_net, "network"), net end
  local kind, options = net:match "^(%a[%w_]*):(.*)$"
  kind = kind or net
  local found, make = pcall(function() return nn[kind] end)
  if not found or type(make) ~= "function" or not kind:find "^%l+$" then
    fail("%s %s: nn has no %s; architectures are mlp, conv, resnet, vit, gpt, llama, bert", option, net, show(kind))
  end
  if not options then
    if kind == "mlp" and not m then fail("%s mlp: without a checkpoint it needs sizes, as mlp:784,128,10", option) end
    options = kind == "mlp" and sizes_of(m, path) .. ", act = \"relu\"" or ""
  end
  local text = ("nn.%s { %s }"):format(kind, options)
  local chunk, why = load("return " .. text, "=" .. option, "t")
  if not chunk then fail("%s %s: %s", option, net, why) end
  local made = chunk()
  if not is_net(made) then fail("%s %s: that is no network", option, net) end
  return made, text
end

local function shape_text(shape) return "[" .. table.concat(shape, ", ") .. "]" end

-- network.fits(net, m, path, quiet): does the model hold the tensors of the network? What it holds besides is no
-- concern of the command, and that is said.
function network.fits(net, m, path, quiet)
  local has, extra, first = {}, 0, nil
  for _, name in ipairs(m:names()) do has[name] = m:info(name) end
  for _, tie in ipairs(m:structure().tied) do has[tie.other] = has[tie.other] or has[tie.kept] end
  local known = {}
  for _, p in ipairs(net:params()) do
    known[p.name] = true
    local info = has[p.name]
    if not info then
      local near = nearest(p.name, has)
      fail("%s has no %s, which the network has%s", path, p.name, near and (" (it has %s)"):format(near) or "")
    end
    if shape_text(info.shape) ~= shape_text(p.shape) then
      fail("%s: %s has the shape %s, in the network it has %s", path, p.name, shape_text(info.shape),
        shape_text(p.shape))
    end
  end
  for _, tie in ipairs(m:structure().tied) do known[tie.other] = true end
  for _, name in ipairs(m:names()) do
    if not known[name] and has[name].dtype:find "f%d" then extra, first = extra + 1, first or name end
  end
  if extra > 0 and not quiet then
    io.stderr:write(("tarn: %s: %s: %s%s not in the network and stay%s as it is\n"):format(tarn.command, path,
      show(first), extra > 1 and (" and %d more are"):format(extra - 1) or " is", extra > 1 and "" or "s"))
  end
end

-- ---- data ----

local function is_set(v) return type(v) == "table" and v.x ~= nil end

local named = { fashion = "fashion_mnist", fashion_mnist = "fashion_mnist", digits = "digits" }

local function normalise_of(text)
  if not text then return nil end
  local mean, std = text:match "^([^,]+),([^,]+)$"
  mean, std = tonumber(mean), tonumber(std)
  if not mean or not std then command.misused("--normalise %s: expected MEAN,STD, as 0.286,0.353", text) end
  return { mean, std }
end

local function tensors_of(path)
  local m = model.load(path)
  if #m:names "^x$" == 0 then fail("--data %s: the file has no tensor x", path) end
  return data.tensors { x = m:tensor "x", y = #m:names "^y$" > 0 and m:tensor "y" or nil }
end

local function read(text, normalise, own)
  local name, part = text:match "^([%a_]+):(%a+)$"
  name = name or text
  if named[name] and (part == nil or part == "train" or part == "test") then
    if normalise and name == "digits" then command.misused("--normalise: digits are numbers from 0 to 1 already") end
    local both = name == "digits" and data.digits() or data.fashion_mnist { normalise = normalise }
    return both[own or part or "train"]
  end
  local images, labels = text:match "^(.+),(.+)$"
  if text:find "%.csv$" then return data.csv(text, { label = -1, normalise = normalise }) end
  if images then return data.idx(images, labels, { normalise = normalise }) end
  if normalise then command.misused("--normalise is for images and tables; %s holds what it holds", text) end
  if text:find "%.lua$" then return of_file(text, "--data", is_set, "data set") end
  if text:find "%.safetensors$" then return tensors_of(text) end
  command.misused("--data %s: expected fashion, digits, a .csv, .safetensors or .lua file, or IMAGES,LABELS", text)
end

-- network.data(text, {examples = at most so many, normalise = "MEAN,STD", part = "train" or "test", of a set that has
-- both, whatever text says})
function network.data(text, o)
  o = o or {}
  local set = read(text, normalise_of(o.normalise), o.part)
  local most = o.examples
  return most and set.n and set.n > most and set.take and set:take(most) or set
end

return network
