"""Small chat templates in the manner of three families, and faulty ones, as Jinja sources."""

from __future__ import annotations

from tiny import tiny_tokenizer

CHATML = """
{%- if tools -%}
{{ '<|im_start|>system\n' }}{% if messages[0].role == 'system' %}{{ messages[0].content + '\n\n' }}{% endif -%}
{{ '# Tools\n<tools>' }}{% for tool in tools %}{{ '\n' + tool | tojson }}{% endfor %}{{ '\n</tools><|im_end|>\n' }}
{%- endif -%}
{%- for message in messages -%}
{%- if not (tools and loop.first and message.role == 'system') -%}
{{ '<|im_start|>' + message.role + '\n' + message.content }}
{%- for call in message.tool_calls -%}
{{ '\n<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments | tojson + '}\n</tool_call>' }}
{%- endfor -%}
{{ '<|im_end|>\n' }}
{%- endif -%}
{%- endfor -%}
{{ '<|im_start|>assistant\n' if add_generation_prompt }}"""

# Trims contents, calls results "ipython", takes one call per turn, and shows the tools in the first user turn.
LLAMA3 = """
{{- '<|begin_of_text|>' -}}
{%- set shown = namespace(tools=false) -%}
{%- for message in messages -%}
{%- if message.tool_calls -%}
{%- if message.tool_calls | length != 1 -%}{{ raise_exception('one tool call per turn') }}{%- endif -%}
{%- set call = message.tool_calls[0].function -%}
{{ '<|start_header_id|>assistant<|end_header_id|>\n\n{"name": "' + call.name + '", "parameters": ' -}}
{{ call.arguments | tojson + '}<|eot_id|>' }}
{%- elif message.role == 'tool' -%}
{{ '<|start_header_id|>ipython<|end_header_id|>\n\n' + message.content | tojson + '<|eot_id|>' }}
{%- else -%}
{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' }}
{%- if tools and message.role == 'user' and not shown.tools -%}
{%- set shown.tools = true -%}
{{ 'Given the following functions:\n\n' }}{% for tool in tools %}{{ tool | tojson(indent=4) + '\n\n' }}{% endfor -%}
{%- endif -%}
{{ message.content | trim + '<|eot_id|>' }}
{%- endif -%}
{%- endfor -%}
{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' if add_generation_prompt }}"""

# Drops the thoughts of turns before the last question, shows those after it, and gives the last turn an empty thought.
QWEN3 = """
{%- if tools -%}
{{ '<|im_start|>system\n' }}{% if messages[0].role == 'system' %}{{ messages[0].content + '\n\n' }}{% endif -%}
{{ '# Tools\n<tools>' }}{% for tool in tools %}{{ '\n' + tool | tojson }}{% endfor %}{{ '\n</tools><|im_end|>\n' }}
{%- elif messages[0].role == 'system' -%}
{{ '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif -%}
{%- set last = namespace(query=-1) -%}
{%- for message in messages -%}{%- if message.role == 'user' -%}{%- set last.query = loop.index0 -%}{%- endif -%}{%- endfor -%}
{%- for message in messages -%}
{%- if message.role == 'user' or (message.role == 'system' and not loop.first) -%}
{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- elif message.role == 'assistant' -%}
{%- set content, thought = message.content, '' -%}
{%- if '</think>' in content -%}
{%- set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') -%}
{%- set content = content.split('</think>')[-1].lstrip('\n') -%}
{%- endif -%}
{{ '<|im_start|>assistant\n' }}
{%- if loop.index0 > last.query and (loop.last or thought) -%}
{{ '<think>\n' + thought.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
{%- else -%}
{{ content }}
{%- endif -%}
{%- for call in message.tool_calls -%}
{{ '\n' if content or not loop.first }}
{{- '<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- (call.function.arguments if call.function.arguments is string else call.function.arguments | tojson) + '}\n</tool_call>' }}
{%- endfor -%}
{{ '<|im_end|>\n' }}
{%- elif message.role == 'tool' -%}
{{ '<|im_start|>user' if loop.previtem.role != 'tool' }}{{ '\n<tool_response>\n' + message.content + '\n</tool_response>' }}
{{- '<|im_end|>\n' if loop.last or loop.nextitem.role != 'tool' }}
{%- endif -%}
{%- endfor -%}
{{ '<|im_start|>assistant\n' if add_generation_prompt }}"""

TEMPLATES = {"chatml": CHATML, "llama3": LLAMA3, "qwen3": QWEN3}

# Knows neither tools nor calls: shows roles and contents alone.
TEXT_ONLY = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{{ '<|im_start|>assistant\n' if add_generation_prompt }}"
)

# Keeps the thoughts of the last assistant turn only: a reply takes them from the turn that was last before it.
LAST_THOUGHT = """
{%- set last = namespace(turn=-1) -%}
{%- for m in messages -%}{%- if m.role == 'assistant' -%}{%- set last.turn = loop.index0 -%}{%- endif -%}{%- endfor -%}
{%- for m in messages -%}
{{ '<|im_start|>' + m.role + '\n' + (m.content if loop.index0 == last.turn else m.content.split('</think>')[-1]) + '<|im_end|>\n' }}
{%- endfor -%}
{{ '<|im_start|>assistant\n' if add_generation_prompt }}"""

# Opens a thought for the reply, and shows no thought of a finished turn.
OPENS_THOUGHT = (
    "{% for m in messages %}{{ '<|User|>' if m.role == 'user' else '<|Assistant|>' }}"
    "{{ m.content.split('</think>')[-1] + ('<|end|>' if m.role == 'assistant' else '') }}{% endfor %}"
    "{{ '<|Assistant|><think>\n' if add_generation_prompt }}"
)

# Ends the whole text, not each turn, and knows no generation prompt.
ENDS_ONCE = "{% for m in messages %}{{ m.role | upper + ': ' + m.content + ' ' }}{% endfor %}{{ '</s>' }}"

# Puts the arguments of a call behind its name as text, which an object is not.
ARGUMENT_TEXT = (
    "{% for m in messages %}{{ m.role + ':' + m.content }}{% for c in m.tool_calls %}"
    "{{ c.function.name + c.function.arguments }}{% endfor %}{{ '\n' }}{% endfor %}"
)
PRINTS_PYTHON = ARGUMENT_TEXT.replace(
    "c.function.name + c.function.arguments", "c.function.name }}{{ c.function.arguments"
)
NO_ARGUMENTS = ARGUMENT_TEXT.replace(" + c.function.arguments", "")


def tokenizer_with(template: str):
    """The tiny tokenizer with this chat template; text is all that these tests look at."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return tokenizer
