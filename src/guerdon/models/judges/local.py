"""A causal language model on this machine that answers a judge's questions.

Many questions are answered together. Prefixes that they share are computed once: the instructions, the conversation, and the
response shown first. Answers depend on the question alone, not on what is asked beside it, up to rounding.

Axes: n questions, v vocabulary. Log-probabilities are nats.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from guerdon.contracts import Prompt
from guerdon.models.engine.pretrained import context_length
from guerdon.models.judges.calls import Answer, CallLog, Question, Usage
from guerdon.models.judges.driver import WaveRespondent
from guerdon.models.judges.failures import Failure
from guerdon.models.policy import LanguagePolicy

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

TOP = 20  # alternatives that are kept of an answer, besides its options: as many as OpenAI's API gives


def local_respondent(
    policy: LanguagePolicy,
    log: CallLog,
    *,
    max_length: int | None = None,
    micro_tokens: int = 4096,
    width: int = 128,
) -> WaveRespondent:
    """Answers questions by a model on this machine.

    max_length: tokens of the longest question; the model's context by default. A longer one is a failure, never cut.
    micro_tokens: tokens computed in one pass. width: conversations whose questions are answered
    together, and kept together: what a kill loses, and how often progress shows.
    """
    model = LocalModel(policy, max_length=max_length, micro_tokens=micro_tokens)
    name = policy.name or type(policy.model).__name__
    return WaveRespondent(name, policy.fingerprint, model.answer, log, log_probs=True, width=width)


class LocalModel:
    """A language model that answers questions: by the probabilities of their options, or by text."""

    def __init__(self, policy: LanguagePolicy, *, max_length: int | None = None, micro_tokens: int = 4096) -> None:
        self.policy, self.micro_tokens = policy, micro_tokens
        context = context_length(policy.model.config)
        self.context = context or 10**9
        self.max_length = min(max_length or self.context, self.context)
        self._texts_by_token: list[str] | None = None

    def answer(self, questions: Sequence[Question]) -> list[Answer | Failure]:
        """An answer to each question, or why there is none."""
        answers: list[Answer | Failure | None] = [None] * len(questions)
        ids = [self.policy.encode(Prompt(question.messages)) for question in questions]
        chosen: list[int] = []
        written: dict[tuple[int, float], list[int]] = defaultdict(list)
        for i, question in enumerate(questions):
            if (reason := self._too_long(len(ids[i]), 0 if question.options else question.max_tokens)) is not None:
                answers[i] = Failure("context_too_long", reason)
            elif question.options:
                chosen.append(i)
            else:
                written[question.max_tokens, question.temperature].append(i)
        for i, answer in self._choose(questions, ids, chosen):
            answers[i] = answer
        for (max_tokens, temperature), rows in written.items():
            for i, answer in self._write(questions, ids, rows, max_tokens, temperature):
                answers[i] = answer
        assert all(answer is not None for answer in answers)
        return answers  # type: ignore[return-value]

    def _too_long(self, num_ids: int, num_new: int) -> str | None:
        longest = min(self.max_length, self.context - num_new)
        if num_ids <= longest:
            return None
        return f"the question has {num_ids} tokens, and the model reads at most {max(0, longest)}"

    # ---- Options by their probabilities ------------------------------------------------------------------------------------

    def _choose(
        self, questions: Sequence[Question], ids: Sequence[Int[np.ndarray, " t"]], rows: Sequence[int]
    ) -> list[tuple[int, Answer]]:
        """The distribution of the first token of each answer: its likeliest tokens and all that spell an option."""
        answers = []
        spellings = self._spellings({option for i in rows for option in questions[i].options})
        for at, log_probs in self.policy.next_token_log_probs([ids[i] for i in rows], self.micro_tokens):
            top = torch.topk(log_probs, min(TOP, log_probs.shape[1]), -1).indices.cpu().numpy()
            for row, likeliest, own in zip((rows[j] for j in at), top, log_probs, strict=True):
                tokens = {*likeliest.tolist(), *(t for option in questions[row].options for t in spellings[option])}
                alternatives = self._alternatives(own, sorted(tokens))
                text = self._token_texts()[int(likeliest[0])]
                usage = Usage(tokens_in=len(ids[row]), tokens_out=1)
                answers.append((row, Answer(text, "length", alternatives, usage=usage)))
        return answers

    def _alternatives(self, log_probs: Float[Tensor, " v"], tokens: Sequence[int]) -> dict[str, float]:
        """Log-probability by text, likeliest first. Different tokens with the same text count together."""
        texts = self._token_texts()
        by_text: dict[str, float] = {}
        values = log_probs[torch.tensor(tokens, device=log_probs.device)].double().cpu().numpy()
        for token, value in sorted(zip(tokens, values.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0])):
            known = by_text.get(texts[token])
            by_text[texts[token]] = value if known is None else float(np.logaddexp(known, value))
        return by_text

    def _spellings(self, options: set[str]) -> dict[str, list[int]]:
        """All tokens that spell an option, such as "1", " 1" and "1" after a space mark."""
        wanted = {option.lower(): option for option in options}
        tokens: dict[str, list[int]] = {option: [] for option in options}
        for token, text in enumerate(self._token_texts() if options else ()):
            option = wanted.get(text.strip().lower())
            if option is not None:
                tokens[option].append(token)
        return tokens

    def _token_texts(self) -> list[str]:
        """The text of each token of the vocabulary, with a space in front where the token starts with one."""
        if self._texts_by_token is None:
            size, tokenizer = self.policy.vocabulary_size, self.policy.tokenizer
            self._texts_by_token = [_token_text(tokenizer, token) for token in range(min(size, len(tokenizer)))]
            self._texts_by_token += [""] * (size - len(self._texts_by_token))  # rows that belong to no token
        return self._texts_by_token

    # ---- Text ----------------------------------------------------------------------------------------------------------------

    def _write(
        self,
        questions: Sequence[Question],
        ids: Sequence[Int[np.ndarray, " t"]],
        rows: Sequence[int],
        max_tokens: int,
        temperature: float,
    ) -> list[tuple[int, Answer]]:
        """Text drawn with each question's own seed."""
        seeds = [seed_of(questions[i]) for i in rows]
        drawn = self.policy.generate([ids[i] for i in rows], 1, max_tokens, temperature, seeds)
        answers = []
        for i, reply, finish in zip(rows, drawn.replies, drawn.finish, strict=True):
            usage = Usage(tokens_in=len(ids[i]), tokens_out=len(reply))
            answers.append((i, Answer(self.policy.response(reply, finish).text, finish, usage=usage)))
        return answers


def seed_of(question: Question) -> int:
    """The seed of an answer's draws: equal questions that are asked several times get different ones."""
    return int(np.random.SeedSequence([question.seed, question.sample]).generate_state(1, np.uint64)[0] >> 1)


def _token_text(tokenizer: Any, token: int) -> str:
    text: str = tokenizer.convert_tokens_to_string([tokenizer.convert_ids_to_tokens(token)])
    return text
