-- SPDX-License-Identifier: Apache-2.0
-- ChatML: every turn between <|im_start|> with its role and <|im_end|>, one a line.
return [[
{%- for turn in messages -%}
  {{- '<|im_start|>' + turn.role + '\n' + turn.content + '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|im_start|>assistant\n' -}}
{%- endif -%}
]]
