-- SPDX-License-Identifier: Apache-2.0
-- EXAONE: the role in [|…|] and the text; what the user says ends with the line, all else with [|endofturn|]. A
-- conversation begins with a system turn, if need be an empty one.
return [[
{%- for turn in messages -%}
  {{- '[|system|][|endofturn|]\n' if loop.first and turn.role != 'system' -}}
  {{- '[|' + turn.role + '|]' + turn.content + ('\n' if turn.role == 'user' else '[|endofturn|]\n') -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '[|assistant|]' -}}
{%- endif -%}
]]
