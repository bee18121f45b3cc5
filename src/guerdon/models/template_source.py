"""The Jinja source of a chat template, as it is read and as it is saved: no date that changes, and the system message in it.

Other readers of a saved model know its template but not reward.json, so what we add to a conversation has to be in the template.
Each addition is one line in front of the source; templates are compiled with trim_blocks, which removes the line's end.
"""

from __future__ import annotations

import ast
import re
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

PLAIN_TEMPLATE: Final = (
    "{% for m in messages %}{{ m['role'] | capitalize }}: {{ m['content'] }}{{ '\\n\\n' if not loop.last }}{% endfor %}"
    "{{ '\\n\\nAssistant:' if add_generation_prompt }}"  # in expressions: a newline after a block is trimmed
)
PLAIN_WITH_BOS: Final = "{{ bos_token }}" + PLAIN_TEMPLATE
PINNED_DATE: Final = datetime(2024, 7, 26)  # what Llama 3's templates write where a reader has no clock
_SYSTEM_START: Final = (
    "{% set messages = messages if messages[0]['role'] == 'system' else [{'role': 'system', 'content': "
)
_SYSTEM_END: Final = "}] + messages %}"
_DATE_START: Final = "{% macro strftime_now(format) %}"
_DATE_PARTS: Final = "aAbBcdDeFGHIjklmMnpPrRsSTuUVwWxXyYzZ"


# ---- Reading -----------------------------------------------------------------------------------------------------------


def template_source(tokenizer: Any, template: str) -> str:
    """The Jinja source of the tokenizer's chat template, or of a plain one if there is none or "plain" is asked for."""
    own = own_template(tokenizer)
    if own is None or (template == "plain" and own not in (PLAIN_TEMPLATE, PLAIN_WITH_BOS)):
        return PLAIN_WITH_BOS if adds_bos(tokenizer) else PLAIN_TEMPLATE
    return own


def own_template(tokenizer: Any) -> str | None:
    """The Jinja source of the tokenizer's chat template, without a saved system message and with the date pinned; or None."""
    source = _stored(tokenizer)
    return pin_date(_split_system(source)[1]) if source else None


def saved_system_message(tokenizer: Any) -> str | None:
    """The system message that was saved in the tokenizer's chat template; None if there is none."""
    return _split_system(_stored(tokenizer) or "")[0]


def adds_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer puts its beginning-of-text token before a text."""
    bos = tokenizer.bos_token_id
    return bos is not None and tokenizer("a")["input_ids"][:1] == [bos]


def writes_the_date(tokenizer: Any) -> bool:
    """Whether the tokenizer's chat template, as it is stored, writes today's date."""
    source = _split_system(_stored(tokenizer) or "")[1]
    return pin_date(source) != source


def _stored(tokenizer: Any) -> str | None:
    source = tokenizer.chat_template
    if isinstance(source, dict):
        source = source.get("default")
    return str(source) if source else None


# ---- Saving ------------------------------------------------------------------------------------------------------------


def with_saved_system(source: str, system: str | None) -> str:
    """The source with a line that puts the system message before conversations that have none."""
    if system is None:
        return source
    return f"{_SYSTEM_START}{system!r}{_SYSTEM_END}\n{source}"


def _split_system(source: str) -> tuple[str | None, str]:
    """The inverse of with_saved_system."""
    line, newline, rest = source.partition("\n")
    if not (newline and line.startswith(_SYSTEM_START) and line.endswith(_SYSTEM_END)):
        return None, source
    try:
        return str(ast.literal_eval(line[len(_SYSTEM_START) : -len(_SYSTEM_END)])), rest
    except (ValueError, SyntaxError):  # edited by hand
        return None, source


@lru_cache(maxsize=64)
def pin_date(source: str) -> str:
    """The source with `strftime_now` replaced by a macro that knows one day, PINNED_DATE; unchanged where it is not used."""
    if "strftime_now" not in source or source.startswith(_DATE_START):
        return source
    parts = dict.fromkeys(re.findall(rf"%-?[{_DATE_PARTS}]", source))
    replaced = "".join(f" | replace({part!r}, {_of_the_pinned_date(part)!r})" for part in parts)
    return f"{_DATE_START}{{{{ format{replaced} }}}}{{% endmacro %}}\n{source}"


def _of_the_pinned_date(part: str) -> str:
    """What strftime gives for one directive; %-d is a day without its leading zero."""
    text = PINNED_DATE.strftime(part.replace("-", ""))
    return (text.lstrip("0") or "0") if "-" in part else text
