-- SPDX-License-Identifier: Apache-2.0
-- The merge that mergekit/build.lua made, as a script of tarn: the steps that were taken, in order.

local say = require "mergekit.say"

-- script(description after build, its result, dtype of the output or nil, name of the configuration) -> text
return function(d, merged, dtype, from)
  local out, method = { "-- The merge of " .. from .. ", made by `tarn convert`." }, d.row.method or d.method
  if d.method ~= "passthrough" then -- which is no method here: algebra does it
    out[2] = "-- What the configuration leaves out has mergekit's value here, which is not always tarn's default;"
    out[3] = "-- `tarn methods " .. method .. "` explains the options."
  end
  out[#out + 1] = ""
  local function add(text) out[#out + 1] = text end
  if d.steps.slicing then
    for line in say.slice_source:gmatch "[^\n]+" do add(line) end
    add ""
  end
  local inputs = #d.models
  for i, step in ipairs(d.steps) do
    if i == inputs + 1 then add "" end
    add(("local %s = %s"):format(step.name, step.text))
  end
  add ""
  if d.tokenizer and not d.files_name and not d.moved then
    add("-- The tokenizers of all models are the same, so no row of the embeddings moves.")
  end
  local save = {}
  if dtype then save[1] = ('dtype = "%s"'):format(dtype) end
  if d.files_name then save[#save + 1] = "files = " .. d.files_name end
  add(('%s:save(arg[1] or "merged"%s)'):format(d.said[merged],
    #save > 0 and (", { %s }"):format(table.concat(save, ", ")) or ""))
  return table.concat(out, "\n") .. "\n"
end
