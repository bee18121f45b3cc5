"""A call in progress: what is sent, what it may cost at most, its tries, and the record that is kept of it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

from guerdon.models.chat_template import replace_surrogates
from guerdon.models.completions_client import BYTES_PER_TOKEN, MAX_ANSWER_BYTES
from guerdon.models.judges.calls import Answer, CallRecord, Question, Usage
from guerdon.models.judges.endpoint.budget import Amount, Prices
from guerdon.models.judges.endpoint.troubles import Trouble
from guerdon.models.judges.failures import Failure

OVERHEAD = 256  # tokens that a chat template may add to a question


@dataclass(slots=True)
class Call:
    """A question on its way. request: what is kept of it; content: what is sent."""

    key: str
    question: Question
    request: str
    content: bytes
    most: Amount
    attempts: list[dict[str, Any]] = field(default_factory=list)
    last_trouble: Trouble | None = None

    @classmethod
    def of(cls, key: str, question: Question, model: str, prices: Prices) -> Call:
        """The call of a question to a model. A token has at least one byte, so bytes bound what it may cost."""
        request = replace_surrogates(json.dumps(question.body(), ensure_ascii=False))
        content = f'{{"model": {json.dumps(model)}, {request[1:]}'.encode()
        tokens_in = len(content) + OVERHEAD
        return cls(
            key,
            question,
            request,
            content,
            Amount(tokens_in + question.max_tokens, prices.cost(tokens_in, question.max_tokens)),
        )

    @property
    def likely_tokens(self) -> int:
        """Tokens by which a server limits the rate: about four bytes each, and all that may be written."""
        return len(self.content) // 4 + self.question.max_tokens

    @property
    def max_bytes(self) -> int:
        """Bytes that an answer may have."""
        per_token = BYTES_PER_TOKEN * (4 if self.question.options else 1)
        return min(MAX_ANSWER_BYTES, (1 << 20) + self.question.max_tokens * per_token)

    def record(
        self, model: str, prices: Prices, *, raw: str | None, answer: Answer | None, failure: Failure | None
    ) -> CallRecord:
        """What the ledger keeps."""
        usage = answer.usage if answer else Usage()
        return CallRecord(
            key=self.key,
            model=model,
            request=self.request,
            raw=raw,
            failure=failure,
            finish=answer.finish if answer else None,
            purpose=self.question.purpose,
            item=self.question.item,
            shown=self.question.shown,
            sample=self.question.sample,
            attempts=tuple(self.attempts),
            usage=usage,
            cost=prices.cost_of(usage),
            prices=prices.name,
            latency=self.attempts[-1]["seconds"] if self.attempts else None,
            at=time.time(),
        )
