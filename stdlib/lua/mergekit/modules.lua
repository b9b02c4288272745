-- SPDX-License-Identifier: Apache-2.0
-- The parts that mergekit's configurations call `modules`, as patterns of names. A layout is a kind of model: the
-- first whose `signs` are all found among the names is the model's, and its parts are apart and cover everything.

local vision = [[^(model\.)?(visual|vision_tower|vision_model)\.]]
local projector = [[^(model\.)?(multi_modal_projector\.|visual\.(merger|deepstack_merger_list)\.)]]

local layouts = {
  -- Llama 4 calls its tower vision_model; Qwen's projector lies inside the tower.
  { signs = { [[^(model\.)?vision_model\.]] }, parts = {
    { "text_decoder", [[^(?!(model\.)?(multi_modal_projector|vision_model)\.)]] },
    { "multi_modal_projector", [[^(model\.)?multi_modal_projector\.]] },
    { "vision_model", [[^(model\.)?vision_model\.]] } } },
  { signs = { vision }, parts = {
    { "text_decoder", [[^(?!(model\.)?(multi_modal_projector|visual|vision_tower)\.)]] },
    { "multi_modal_projector", projector },
    { "vision_tower", [[^(model\.)?(vision_tower\.|visual\.(?!(merger|deepstack_merger_list)\.))]] } } },
  -- T5 keeps embedding and head outside of encoder and decoder.
  { signs = { [[^encoder\.]], [[^decoder\.]], [[^shared\.]] }, parts = {
    { "shared", [[^(?!(encoder|decoder)\.)]] },
    { "encoder", [[^encoder\.]] },
    { "decoder", [[^decoder\.]] } } },
  { signs = { [[^(model\.)?encoder\.]], [[^(model\.)?decoder\.]] }, parts = {
    { "encoder", [[^(model\.)?encoder\.]] },
    { "decoder", [[^(?!(model\.)?encoder\.)]] } } },
  { signs = {}, parts = { { "default", "." } } },
}

-- parts_of(model) -> { {name, pattern}, … }, those that the model has tensors of
return function(m)
  for _, layout in ipairs(layouts) do
    local all = true
    for _, sign in ipairs(layout.signs) do all = all and #m:names(sign) > 0 end
    if all then
      local parts = {}
      for _, part in ipairs(layout.parts) do
        if #m:names(part[2]) > 0 then parts[#parts + 1] = part end
      end
      return parts
    end
  end
end
