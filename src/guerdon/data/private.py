"""Secrets and personal data in texts: where they are, and the same text with them masked.

Names, addresses and passwords in plain words are not found: that takes a model. detect-secrets knows the form of access keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any, Final, Literal

from guerdon.contracts import Comparison, Message, Prompt, ToolCall

__all__ = ["Kind", "mask", "mask_comparison", "private_values"]

Kind = Literal["secret", "card", "email", "phone"]

SHORTEST_KEY, WINDOW, OVERLAP = 20, 2000, 200  # characters of a word that can hold a key, and that are read at a time
LONGEST_PHONE: Final = 13  # digits; E.164 allows 15, which nobody has and sums have
DIGITS: Final = "0123456789"
SHOWN: Final = 3  # characters that a mask leaves, so that a reader can tell what was there
# Plugins of detect-secrets by the form of a key. Left out are those that guess by entropy or by words such as "password".
PLUGINS: Final = (
    *(
        "AWSKeyDetector",
        "AzureStorageKeyDetector",
        "BasicAuthDetector",
        "DiscordBotTokenDetector",
        "GitHubTokenDetector",
    ),
    *("GitLabTokenDetector", "JwtTokenDetector", "MailchimpDetector", "OpenAIDetector", "PypiTokenDetector"),
    *("SendGridDetector", "SlackDetector", "SquareOAuthDetector", "StripeDetector", "TelegramBotTokenDetector"),
)
_OTHER_KEYS = re.compile(
    r"\b(?:AIza[\w-]{35}|sk-ant-[\w-]{20,200}|hf_[A-Za-z]{34}|npm_[A-Za-z0-9]{36})(?![\w-])", re.ASCII
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:\s|\\n)+"
    r"(?:[A-Z][A-Za-z-]{1,20}: [^\n]{0,200}\s+){0,5}[A-Za-z0-9+/=][A-Za-z0-9+/=\s\\]{39,20000}"
)
_NO_SECRET = re.compile(
    r"pass(?:word|wd)?|pwd|secret|token|my.{0,20}|your.{0,20}|[x*.]+|.*(?:EXAMPLE|<|\{).*", re.IGNORECASE | re.DOTALL
)
_EMAIL = re.compile(
    r"(?<![\w.+%-])[A-Z0-9_.+%-]{1,64}@(?:[A-Z0-9](?:[A-Z0-9-]{0,61}[A-Z0-9])?\.){1,8}[A-Z]{2,24}(?![\w-])",
    re.IGNORECASE | re.ASCII,
)
# Domains that nobody has (RFC 2606), and names that stand for the reader's own.
_NO_EMAIL = re.compile(
    r".*[@.](?:example(?:\.\w+)?|test|invalid|localhost)|(?:your|my)[\w.-]*@.*|(?:user(?:name)?|e?mail|name|someone)@.*"
    r"|.*@(?:domain|email|company|your[\w-]*|my[\w-]*|site|website|mail)\.\w+",
    re.IGNORECASE | re.ASCII,
)
_NUMBERS = re.compile(r"[0-9][0-9 .()-]{8}")  # in each card and phone number; quick to look for
_CARD = re.compile(
    r"(?<![\w.,+-])(?:3[47]\d\d|3[05689]\d\d|4\d{3}|5[1-5]\d\d|2[2-7]\d\d|6011|65\d\d)(?:[ -]?\d){10,12}(?![\w-])",
    re.ASCII,
)
# International numbers, and those of North America with an area code. 555 is fiction, and calls to 800 are free: no person's.
_PHONE = re.compile(
    r"(?<![\w.+/=-])(?:\+[1-9]\d{0,2}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,5}(?:[ .-]?\d{2,5}){1,4}"
    r"|(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[.-])[2-9]\d\d[.-]\d{4})(?![\w-]|[.,]\d)",
    re.ASCII,
)
_NO_PHONE = re.compile(r"\+?1?(?:8(?:00|33|44|55|66|77|88)|900|555|...555)\d*", re.ASCII)


def private_values(text: str) -> dict[str, Kind]:
    """Each secret, card number, email address and phone number in the text, in that order. Time is linear in the text."""
    has_digits = any(digit in text for digit in DIGITS)  # most texts end here: each slow search needs one
    values: dict[str, Kind] = (
        dict.fromkeys(_secrets(text), "secret") if has_digits or "@" in text or "hf_" in text else {}
    )
    has_numbers = has_digits and _NUMBERS.search(text)
    if has_numbers:
        values.update({match[0]: "card" for match in _CARD.finditer(text) if _is_card(match[0])})
    if "@" in text:
        emails = (match[0] for match in _EMAIL.finditer(text))
        passwords = tuple(f"{value}@" for value in values)  # as in https://name:password@host
        emails = (email for email in emails if not email.startswith(passwords))
        values.update({email: "email" for email in emails if not _NO_EMAIL.fullmatch(email)})
    if has_numbers:
        phones = (match[0] for match in _PHONE.finditer(text))
        values.update({phone: "phone" for phone in phones if phone not in values and _is_phone(phone)})
    return values


def mask(text: str) -> str:
    """The text in which only the first characters of each private value are left, as in AKI•••."""
    for value in sorted(private_values(text), key=len, reverse=True):
        text = text.replace(value, f"{value[:SHOWN]}•••")
    return text


def mask_comparison(comparison: Comparison) -> Comparison:
    """The comparison with all its texts masked, to show it to readers."""
    prompt = Prompt(map(_mask_turn, comparison.prompt), comparison.prompt.tools).at(comparison.prompt.location)
    responses = tuple(
        replace(
            response,
            text="" if response.messages else mask(response.text),
            messages=tuple(map(_mask_turn, response.messages)),
        )
        for response in comparison.responses
    )
    rationale = comparison.rationale and mask(comparison.rationale)
    return replace(comparison, prompt=prompt, responses=responses, rationale=rationale)


def _mask_turn(turn: Message) -> Message:
    return replace(turn, content=mask(turn.content), tool_calls=tuple(map(_mask_call, turn.tool_calls)))


def _mask_call(call: ToolCall) -> ToolCall:
    """Arguments that are no JSON once they are masked, such as a card number without quotes, are left out."""
    masked = mask(call.arguments)
    if masked == call.arguments:
        return call
    try:
        json.loads(masked)
    except ValueError:
        masked = '{"masked": true}'
    return replace(call, arguments=masked)


def _secrets(text: str) -> Iterator[str]:
    """Access keys, passwords in addresses, and private keys."""
    if "PRIVATE KEY" in text:
        yield from (match[0] for match in _PRIVATE_KEY.finditer(text))
    for word in text.split():
        if len(word) >= SHORTEST_KEY or "@" in word:
            for start in range(0, max(1, len(word) - OVERLAP), WINDOW - OVERLAP):
                yield from _keys(word[start : start + WINDOW])


def _keys(word: str) -> Iterator[str]:
    yield from (match[0] for match in _OTHER_KEYS.finditer(word))
    for plugin in _plugins():
        yield from (value for value in plugin(word) if value and not _NO_SECRET.fullmatch(value))


@cache
def _plugins() -> tuple[Callable[[str], Iterator[str]], ...]:
    """A function from a text to its keys, of each plugin."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    plugins: dict[str, Any] = get_mapping_from_secret_type_to_class()
    by_name = {plugin.__name__: plugin for plugin in plugins.values()}
    return tuple(by_name[name]().analyze_string for name in PLUGINS)


def _is_card(text: str) -> bool:
    """Whether the digits have the length of their brand and satisfy the check digit (Luhn 1960, ISO/IEC 7812-1)."""
    digits = [int(digit) for digit in text if digit.isdigit()]
    brand = digits[0] * 10 + digits[1]
    length = 15 if brand in (34, 37) else 14 if brand in (30, 36, 38, 39) else 16
    doubled = sum(sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return len(digits) == length and (sum(digits[-1::-2]) + doubled) % 10 == 0 and len(set(digits)) > 1


def _is_phone(text: str) -> bool:
    digits = re.sub(r"[^+0-9]", "", text)
    return 10 <= len(digits.lstrip("+")) <= LONGEST_PHONE and not _NO_PHONE.fullmatch(digits)
