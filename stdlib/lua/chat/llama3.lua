-- SPDX-License-Identifier: Apache-2.0
-- Llama 3 Instruct: a header with the role, an empty line, the text without space around it, <|eot_id|> and nothing
-- between turns.
return [[
{%- for turn in messages -%}
  {{- bos_token if loop.first -}}
  {{- '<|start_header_id|>' + turn.role + '<|end_header_id|>\n\n' + turn.content | trim + '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}
{%- endif -%}
]]
