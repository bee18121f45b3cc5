"""Responses in another script, or in another language, than their prompt.

Scripts are told by the names of Unicode characters, languages of one script by py3langid, if it is installed. A prompt that
names a language or mentions translation may ask for another one: it is left alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from importlib.util import find_spec
from typing import Any, Final

from guerdon.contracts import Finding, Prompt
from guerdon.data.checks.contract import Fault, Row, RowCheck

__all__ = ["Languages", "has_identifier", "language_of", "scripts_in"]

OTHER: Final = Fault(
    "warning",
    "Responses in another language",
    "have a response in another language or script than the prompt, which names none",
    "Drop them, unless the model shall switch languages.",
)
READ: Final = 2000  # characters of a text that are read
FEWEST_LETTERS: Final = 20  # of a text whose script counts
SHORTEST: Final = 100  # characters of a text whose language can be told
CERTAIN, POSSIBLE = 0.9, 0.05  # probabilities of a language: of the response, and of the prompt
MUCH, LITTLE = 0.2, 0.05  # of the letters of a response, and of a prompt, are of a script
NO_LANGUAGE: Final = "zxx"  # the code of code, tables and the like
ENGLISH: Final = frozenset("the of and to a in is it you that for with on are as this i be can have not or".split())
ENGLISH_SHARE: Final = 0.15  # of an English text's words; a quick look that saves the slow one
# Languages that writers mix, or that the model of languages does.
ALIKE: Final = (
    *({"no", "nb", "nn", "da", "sv"}, {"hr", "sr", "bs", "sl"}, {"id", "ms", "jv"}, {"cs", "sk"}, {"gl", "pt", "es", "ca", "an"}),
    *({"ru", "uk", "be", "bg", "mk"}, {"zh", "ja"}, {"hi", "ne", "mr"}, {"af", "nl", "li"}, {"en", "pcm", "sco"}),
    *({"it", "co"}, {"fr", "oc", "wa"}),
)  # fmt: skip
_ONE_SCRIPT: Final[Mapping[str, str]] = {
    "HIRAGANA": "CJK",
    "KATAKANA": "CJK",
    "KATAKANA-HIRAGANA": "CJK",
    "FULLWIDTH": "LATIN",
}
_NO_SCRIPT = ("MATHEMATICAL", "DOUBLE-STRUCK", "SCRIPT", "MODIFIER", "FEMININE", "MASCULINE", "MICRO")
_NAMED = re.compile(
    r"translat|language|\b(?:english|french|spanish|german|italian|portuguese|dutch|swedish|norwegian|danish|finnish|icelandic|polish|czech"
    r"|slovak|hungarian|romanian|bulgarian|greek|latin|russian|ukrainian|serbian|croatian|turkish|arabic|hebrew|persian|farsi|urdu|hindi"
    r"|bengali|punjabi|gujarati|marathi|tamil|telugu|kannada|malayalam|thai|vietnamese|indonesian|malay|tagalog|filipino|swahili|hausa|yoruba"
    r"|chinese|mandarin|cantonese|japanese|korean|esperanto|welsh|irish|gaelic|basque|catalan|galician|sanskrit|kanji|pinyin|romaji|cyrillic)\b",
    re.IGNORECASE,
)
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+|\\[a-zA-Z]+", re.DOTALL)


class Languages(RowCheck):
    """Responses in a script or a language that the prompt does not have."""

    def faults(self, row: Row) -> Iterator[Fault]:
        """At most one."""
        question = _question(row.comparison.prompt)
        answers = (_prose(response.text) for response in row.comparison.responses)
        differ = any(_has_other_script(question, answer) or _has_other_language(question, answer) for answer in answers)
        if differ and not _NAMED.search(question):
            yield OTHER

    def findings(self) -> Iterator[Finding]:
        """What was counted, or that languages of one script could not be told apart."""
        yield from super().findings()
        if self.data.rows and not has_identifier():
            title, remedy = "Not checked: languages of one script", "Run pip install 'guerdon[language]'."
            yield Finding("note", title, "py3langid is not installed", remedy)


@cache
def has_identifier() -> bool:
    """Whether languages of one script can be told apart."""
    return find_spec("py3langid") is not None


def _question(prompt: Prompt) -> str:
    """What the user wrote, the last turns first if it is long."""
    turns = [turn.content for turn in reversed(prompt) if turn.role in ("user", "system")]
    return _prose("\n".join(turn[:READ] for turn in turns[:10]))


def _prose(text: str) -> str:
    """The beginning of a text without code, addresses and formulas, which are no language."""
    text = text[: 2 * READ]
    has_code = any(mark in text for mark in ("`", "://", "\\"))
    return (_CODE.sub(" ", text) if has_code else text)[:READ]


def _has_other_script(question: str, answer: str) -> bool:
    """Whether a good part of the answer is in a script of which the question has next to nothing."""
    if question.isascii() and answer.isascii():
        return False
    known = scripts_in(question, LITTLE, FEWEST_LETTERS // 2)
    return bool(known) and not scripts_in(answer, MUCH, FEWEST_LETTERS) <= known


def scripts_in(text: str, share: float, fewest: int) -> set[str]:
    """The scripts that have this share of `fewest` or more letters, and not only a few symbols."""
    counts = _scripts(text)
    total = counts.total()
    return {name for name, n in counts.items() if n >= max(share * total, fewest / 2)} if total >= fewest else set()


def _scripts(text: str) -> Counter[str]:
    """Letters of each script. A Han character or a syllable counts as two, since it says more than a letter."""
    counts: Counter[str] = Counter()
    for character, count in Counter(text).items():
        if script := _script(character):
            counts[script] += count * (2 if script in ("CJK", "HANGUL") else 1)
    return counts


@lru_cache(maxsize=20_000)
def _script(character: str) -> str:
    """LATIN, CYRILLIC, CJK and so on; "" for what is no letter of a script."""
    if not character.isalpha():
        return ""
    name = unicodedata.name(character, "").split(" ")[0]
    return "" if name in _NO_SCRIPT else _ONE_SCRIPT.get(name, name)


def _has_other_language(question: str, answer: str) -> bool:
    """Whether the language of the answer is certain, and neither the question nor a line of it may be in that language."""
    if (
        min(len(question), len(answer)) < SHORTEST
        or not has_identifier()
        or (_is_english(question) and _is_english(answer))
    ):
        return False
    language, probability = language_of(answer)
    if language == NO_LANGUAGE or probability < CERTAIN or language_of(question)[1] < CERTAIN:
        return False
    lines = [question, *(line for line in question.split("\n") if len(line) >= FEWEST_LETTERS)][:6]
    return not any(_may_be(line, language) for line in lines)


def _is_english(text: str) -> bool:
    words = text.lower().split()
    return sum(word in ENGLISH for word in words) >= ENGLISH_SHARE * len(words)


def language_of(text: str) -> tuple[str, float]:
    """The code of the most probable language, and its probability."""
    code, probability = _identifier().classify(text)
    return code, probability


def _may_be(text: str, language: str) -> bool:
    family = next((family for family in ALIKE if language in family), {language})
    ranked: list[tuple[str, float]] = _identifier().rank(text)
    return sum(probability for code, probability in ranked if code in family) > POSSIBLE


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
