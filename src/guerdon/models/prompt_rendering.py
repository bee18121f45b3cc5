"""A prompt as the text that a language model continues: chat template, tools, system message."""

from __future__ import annotations

import json
from typing import Any

from guerdon.contracts import GuerdonError, Message, Prompt, message_dict
from guerdon.models.chat import PLAIN_TEMPLATE, whole


def render_prompt(tokenizer: Any, prompt: Prompt, *, template: str, system: str | None) -> str:
    """The prompt up to where the reply begins, by the tokenizer's chat template ("model") or a plain one ("plain").

    `system` is put before a prompt that has no system message. Raises GuerdonError if the template refuses the prompt.
    """
    messages = with_system_message(prompt, system)
    try:
        text = tokenizer.apply_chat_template(
            [message_dict(message) for message in messages],
            tools=[json.loads(tool) for tool in prompt.tools] or None,
            chat_template=template_source(tokenizer, template),
            tokenize=False,
            add_generation_prompt=True,
        )
    except Exception as error:  # a template is a program of its own: whatever it raises is about this conversation
        roles = ",".join(message.role for message in prompt)
        raise GuerdonError(
            f"the chat template must accept the prompt, but refuses its roles {roles}: {error}. Reorder or merge the turns."
        ) from None
    return whole(text)


def template_source(tokenizer: Any, template: str) -> str:
    """The Jinja source of the tokenizer's chat template, or of a plain one if there is none or "plain" is asked for."""
    own = tokenizer.chat_template
    if isinstance(own, dict):
        own = own.get("default")
    return str(own or PLAIN_TEMPLATE) if template == "model" else PLAIN_TEMPLATE


def with_system_message(prompt: Prompt, system: str | None) -> Prompt:
    """The prompt with a system message in front, unless it has one or is empty."""
    if system is None or not prompt or prompt[0].role == "system":
        return prompt
    return Prompt((Message("system", system), *prompt), prompt.tools)
