-- SPDX-License-Identifier: Apache-2.0
-- Mistral Instruct (7B v0.1, v0.2, Mixtral): [INST] around what the user says, the end-of-sequence token after each
-- answer. There is no system turn: its text stands before the user's first.
return [[
{%- set opening = messages[0].content + '\n\n' if messages and messages[0].role == 'system' else none -%}
{{- bos_token -}}
{%- for turn in (messages if opening is none else messages[1:]) -%}
  {%- if turn.role != ('user' if loop.index0 % 2 == 0 else 'assistant') -%}
    {{- raise_exception('user and assistant take turns, after a system turn or none; one is of ' ~ turn.role) -}}
  {%- endif -%}
  {%- if turn.role == 'user' -%}
    {{- ' [INST] ' + (opening if loop.first and opening is not none else '') + turn.content + ' [/INST]' -}}
  {%- else -%}
    {{- ' ' + turn.content + eos_token -}}
  {%- endif -%}
{%- endfor -%}
]]
