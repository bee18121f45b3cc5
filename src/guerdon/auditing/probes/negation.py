"""Negates a sentence: puts a "not" into the main clause, or removes one. English."""

from __future__ import annotations

import re
from collections.abc import Iterator

from guerdon.auditing.probes.prose import match_case

BE = r"is|are|was|were|am"
AUXILIARY = rf"{BE}|will|would|should|must|can|could|do|does|did|has|have|had|need"
# Before these a "not" qualifies rather than negates.
WEIGHED = r"(?!\s+(?:only|welcome|afraid|just|necessarily|always|every|all|so much|too|very|really|quite|as)\b)"
NOT = re.compile(rf"\b({AUXILIARY})\s+not\b{WEIGHED}", re.IGNORECASE)
CANNOT = re.compile(r"\b(can)(?:not|['’]t)\b" + WEIGHED, re.IGNORECASE)
WONT = re.compile(r"\b(wo)n['’]t\b" + WEIGHED, re.IGNORECASE)
NT = re.compile(
    r"\b(is|are|was|were|would|should|must|could|do|does|did|has|have|had|need)n['’]t\b" + WEIGHED, re.IGNORECASE
)
LEANS_ON_NOT = re.compile(
    r"\b(?:anymore|any more|any longer|at all|yet|until|unless|either|neither|nor|rather|instead|any|anything|anyone|ever)\b",
    re.IGNORECASE,
)
ASSERTED = (
    r"(?=\s+(?!(?:\w+\s+)?(?:no|not|never|nothing|none|nobody|neither|also|either|all|only|just|hardly|welcome|most|"
    r"afraid|sorry|always|definitely|certainly|probably|kind|sort|especially|particularly)\b)\w)"
)
ASSERTS = re.compile(
    rf"\b({BE}|will|would|should|must|can|could){ASSERTED}"
    r"|\b(has|have|had)(?=\s+(?:been|become|made|shown|found|gone|come|taken|given|seen|got|\w{3,}ed)\b)",
    re.IGNORECASE,
)
JOINED = re.compile(rf"\b(it|that|he|she|there|they|you|we|i|this)(['’])(s|re|m|ll){ASSERTED}", re.IGNORECASE)
EXISTS = re.compile(
    r"\b(there(?:['’]s|['’]re|\s+(?:is|are|was|were)))\s+(?:a (?:lot|number) of|a few|an?|some|several|many|lots of|plenty of)\b",
    re.IGNORECASE,
)
SUBORDINATE = re.compile(
    r"\b(?:if|when|whenever|that|which|who|whom|whose|because|while|although|though|what|whatever|how|where|why|whether|as|since|"
    r"until|unless|before|after|than|once|not|never|no|n['’]t|hardly|rather|hope|wish|here)\b|n['’]t\b",
    re.IGNORECASE,
)
COMMAND = re.compile(
    r"(?:Add|Apply|Ask|Bake|Boil|Bring|Buy|Call|Check|Choose|Clean|Close|Combine|Cook|Cover|Cut|Drain|Drink|Eat|Fill|Follow|Get|Give|Go|"
    r"Heat|Hold|Keep|Leave|Let|Look|Make|Mix|Move|Open|Peel|Place|Pour|Practice|Press|Put|Read|Remove|Rinse|Run|Save|Season|Serve|"
    r"Set|Spread|Start|Stay|Stir|Store|Take|Talk|Turn|Use|Visit|Wait|Wash|Wear|Write)(?=\s+[a-z])"
)  # fmt: skip


def negate(sentence: str) -> Iterator[str]:
    """The sentence with a "not" removed from or put into its main clause. Nothing for questions, or where that would not flip it."""
    if sentence.rstrip("\"'”’)*_ ").endswith("?"):
        return
    yield from _without_not(sentence)
    yield from _with_not(sentence)


def _without_not(sentence: str) -> Iterator[str]:
    if LEANS_ON_NOT.search(sentence):
        return
    for pattern in (NOT, CANNOT, WONT, NT):
        for match in pattern.finditer(sentence):
            word = match_case("will", match[1]) if pattern is WONT else match[1]
            if " but " not in re.split(r"[,;.]", sentence[match.end() :])[0]:  # "not this but that" joins
                yield sentence[: match.start()] + word + sentence[match.end() :]


def _with_not(sentence: str) -> Iterator[str]:
    for match in EXISTS.finditer(sentence):
        if _is_main(f"{sentence[: match.start()]}there"):
            yield sentence[: match.start()] + match[1] + " no" + sentence[match.end() :]
    for match in ASSERTS.finditer(sentence):
        if match.start() and _is_main(sentence[: match.start()]):
            verb = match[0]
            yield sentence[: match.end()] + ("not" if verb.lower() == "can" else " not") + sentence[match.end() :]
    for match in JOINED.finditer(sentence):
        if _is_main(sentence[: match.start(2)]):
            joined = f"{match[1]} won{match[2]}t" if match[3].lower() == "ll" else f"{match[0]} not"
            yield sentence[: match.start()] + joined + sentence[match.end() :]
    command = COMMAND.match(sentence)
    if command and not SUBORDINATE.search(sentence):
        yield f"Don't {command[0].lower()}{sentence[command.end() :]}"


def _is_main(before: str) -> bool:
    """Whether what follows is in a main clause: no subordinating or negative word since the last stop."""
    clause = re.split(r"[,;:(—–]|\s-\s|\b(?:and|but|so)\b", before)[-1].strip().lower()
    if clause == "that":
        return before.strip().lower() == clause
    return (
        bool(clause) and not SUBORDINATE.search(clause) and clause.rsplit(" ", 1)[-1] not in ("a", "the", "free", "own")
    )
