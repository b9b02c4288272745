-- SPDX-License-Identifier: Apache-2.0
-- Alpaca: headings for instructions and responses, an empty line between the parts, texts without space around them.
-- A system turn is plain text before them.
return [[
{%- set heading = {'user': '### Instruction:\n', 'assistant': '### Response:\n', 'system': ''} -%}
{%- for turn in messages -%}
  {%- if turn.role not in heading -%}
    {{- raise_exception('this format has turns of system, user and assistant, not of ' ~ turn.role) -}}
  {%- endif -%}
  {{- '\n\n' if not loop.first -}}
  {{- heading[turn.role] + turn.content | trim -}}
{%- endfor -%}
{%- if add_generation_prompt and messages and messages[-1].role != 'assistant' -%}
  {{- '\n\n' + heading['assistant'] -}}
{%- endif -%}
]]
