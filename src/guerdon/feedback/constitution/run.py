"""A run of critique and revision, or of comparisons under principles, over many rows in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from guerdon.config.feedback import ConstitutionOptions
from guerdon.contracts import Prompt, Response
from guerdon.feedback.constitution.compare import PrincipledVerdict, PrincipleJudge
from guerdon.feedback.constitution.principles import Constitution
from guerdon.feedback.constitution.revise import Chain, revise
from guerdon.feedback.constitution.rows import RevisionPair, revision_pairs
from guerdon.models.judges.driver import Respondent, in_order
from guerdon.models.judges.prompted import Pair

BLOCK = 512  # rows whose chains are finished before their pairs are judged


class Draft(NamedTuple):
    """A response to revise. id: of its row."""

    id: str
    prompt: Prompt
    response: Response


def run_revisions(
    drafts: Iterable[Draft],
    critic: Respondent,
    judge: PrincipleJudge | None,
    constitution: Constitution,
    options: ConstitutionOptions,
) -> Iterator[tuple[Chain, list[RevisionPair]]]:
    """Each draft's chain with its pairs, in the order of the drafts. Pairs are checked where there is a judge."""
    rows = iter(drafts)
    while block := list(islice(rows, BLOCK)):
        conversations = (revise(row.prompt, row.response, constitution, options, row.id) for row in block)
        chains = list(in_order(critic.converse(conversations)))
        pairs = [list(revision_pairs(chain, options)) for chain in chains]
        yield from zip(chains, _checked(pairs, judge, options), strict=True)


def _checked(
    pairs: Sequence[list[RevisionPair]], judge: PrincipleJudge | None, options: ConstitutionOptions
) -> Iterator[list[RevisionPair]]:
    if judge is None:
        yield from pairs
        return
    verdicts = in_order(judge.check((pair.as_pair(), pair.principle) for of_one in pairs for pair in of_one))
    for of_one in pairs:
        yield [pair.checked(*verdict, options) for pair, verdict in zip(of_one, verdicts, strict=False)]


def run_comparisons(pairs: Iterable[Pair], judge: PrincipleJudge) -> Iterator[tuple[Pair, PrincipledVerdict]]:
    """Each pair with its verdict, in order."""
    waiting: deque[Pair] = deque()

    def noted() -> Iterator[Pair]:
        for pair in pairs:
            waiting.append(pair)
            yield pair

    for verdict in in_order(judge.compare(noted())):
        yield waiting.popleft(), verdict
