"""A policy on a server that speaks OpenAI's completions API: vLLM, SGLang, llama.cpp, TGI.

What a server sends is untrusted text. Log-probabilities are nats.
"""

from __future__ import annotations

import copy
import difflib
import json
import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from guerdon.contracts import (
    GuerdonError,
    Message,
    Prompt,
    PromptLike,
    Response,
    Rollouts,
    as_prompt,
    digest,
)
from guerdon.conversation import message_dict
from guerdon.models.chat_template import render_prompt, replace_surrogates, with_system_message
from guerdon.models.completions_api import Completion
from guerdon.models.completions_client import CompletionsClient, Request, RequestFailed, RequestPool, TooManyReplies
from guerdon.progress import ProgressBar

log = logging.getLogger("guerdon")

OnReplies = Callable[[int, tuple[Response, ...]], None]


class ServerError(GuerdonError):
    """A server that cannot be sampled from, or no longer.

    partial: replies that arrived before, by the position of their prompt; some prompts may have fewer than n. log_prob:
    theirs, if requested. prompt: the position of the prompt whose request failed.
    """

    def __init__(
        self,
        line: str,
        partial: Mapping[int, tuple[Response, ...]] | None = None,
        log_prob: Mapping[int, list[float]] | None = None,
        prompt: int | None = None,
    ) -> None:
        super().__init__(line)
        self.partial, self.log_prob, self.prompt = dict(partial or {}), dict(log_prob or {}), prompt


class PromptRefused(ServerError):
    """A server that answers, but refuses this prompt: because it is too long, for example."""


class RemotePolicy:
    """A policy behind HTTP. Sampling is plain as far as standard fields can say: temperature, top_p 1, no stop strings.

    Without a tokenizer the server renders the messages (v1/chat/completions). With one they are rendered here, by its chat
    template ("model") or a plain one ("plain", or where it has none), and sent as token ids (v1/completions): the ids
    that a LanguagePolicy with this tokenizer would read.

    url: with or without /v1. system: put before prompts that have no system message. timeout: seconds for one answer.
    retries: tries after the first, on no answer, 429 (Retry-After is respected), 5xx, and answers that cannot be read.
    workers: requests in flight at once. per_request: most replies per request. api_key: sent as a bearer token and never
    shown; key_from_env takes it from OPENAI_API_KEY. log_probs: also request Rollouts.log_prob.

    A reply's finish is "stop" if the server says stop. Anything else is "length", including a missing reason, abort,
    content_filter and tool_calls: a reply looks finished only if the server says so.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        tokenizer: Any = None,
        template: str = "model",
        system: str | None = None,
        timeout: float = 600.0,
        retries: int = 8,
        workers: int = 16,
        per_request: int = 16,
        api_key: str | None = None,
        key_from_env: bool = False,
        log_probs: bool = False,
    ) -> None:
        if template not in ("model", "plain"):
            raise GuerdonError(f"template must be model or plain, got {template!r:.80}. Choose one of these.")
        if template == "plain" and tokenizer is None:
            raise GuerdonError("template must be model without a tokenizer, got 'plain'. Give a tokenizer too.")
        if not (timeout > 0 and retries >= 0 and workers >= 1 and per_request >= 1):
            raise GuerdonError(
                "timeout must be above 0, retries at least 0, workers and per_request at least 1, "
                f"got {timeout}, {retries}, {workers}, {per_request}. Change the one that is out of range."
            )
        self.client = CompletionsClient(
            url, api_key=api_key, key_from_env=key_from_env, timeout=timeout, retries=retries, log_probs=log_probs
        )
        self.model, self.system = model, system
        self.tokenizer, self.template = tokenizer, template
        self.workers, self.per_request = workers, per_request
        self._max_replies = per_request  # per request, as far as this server is known to give them

    @property
    def url(self) -> str:
        """The server's address, ending in /v1."""
        return self.client.url

    @property
    def log_probs(self) -> bool:
        """Whether rollouts have the log-probability of each reply."""
        return self.client.log_probs

    @property
    def fingerprint(self) -> str:
        """A hash of what distinguishes this policy, as far as a client can know."""
        return digest([self.url, self.model, self.system, self.tokenizer is not None, self.template])

    def check(self) -> None:
        """Raise ServerError if the server does not answer within seconds, or does not serve the model."""
        try:
            names = self.client.list_models()
        except RequestFailed as error:
            raise ServerError(f"{self.url}/models: {error.line}") from None
        if self.model in names:
            return
        close = difflib.get_close_matches(self.model, names, n=1, cutoff=0.4)
        if close:
            advice = f"Use {close[0]!r}, the nearest of those it serves."
        elif names:
            advice = f"Use one of {', '.join(map(repr, names[:9]))}."
        else:
            advice = "Load a model there first: it serves none."
        raise ServerError(
            f"{self.url}: {self.client.clean(f'model must be one that the server has, got {self.model!r}')}. "
            f"{self.client.clean(advice)}."
        )

    def can_answer(self, prompt: PromptLike) -> bool:
        """Whether the server gives one token in reply to a prompt, at the first try."""
        once = copy.copy(self)
        once.client = copy.copy(self.client)
        once.client.retries = 0
        try:
            once.sample([prompt], 1, 1)
        except ServerError:
            return False
        return True

    # ---- Sampling ----------------------------------------------------------------------------------------------------

    def sample(
        self,
        prompts: Sequence[PromptLike],
        n: int,
        max_tokens: int,
        temperature: float = 1.0,
        seed: int = 0,
        *,
        on_replies: OnReplies | None = None,
    ) -> Rollouts:
        """Draw n responses to each prompt, at most max_tokens each, grouped by prompt and in the order of the prompts.

        Every request has its own seed, derived from `seed`, the prompt's position and the position of its first reply.
        Whether equal seeds give equal replies is up to the server. Temperature 0 requests one reply and repeats it.
        on_replies(i, responses) is called in this thread as soon as prompt i has its n, in the order of arrival.
        Raises ServerError, with the replies that arrived before, when a request is refused or its last try failed.
        """
        return self._sample(prompts, n, max_tokens, temperature, [(seed, i) for i in range(len(prompts))], on_replies)

    def sample_with_seeds(
        self, prompts: Sequence[PromptLike], n: int, max_tokens: int, temperature: float, seeds: Sequence[int]
    ) -> Rollouts:
        """The same with one seed per prompt: each gets the request that `sample` would send for it alone."""
        return self._sample(prompts, n, max_tokens, temperature, [(seed, 0) for seed in seeds], None)

    def _sample(
        self,
        prompts: Sequence[PromptLike],
        n: int,
        max_tokens: int,
        temperature: float,
        seeds: Sequence[tuple[int, int]],
        on_replies: OnReplies | None,
    ) -> Rollouts:
        self._check_sampling(n, max_tokens, temperature)
        messages = [as_prompt(prompt) for prompt in prompts]
        fields = {
            "model": self.model,
            "temperature": float(temperature),
            "top_p": 1.0,
            "max_tokens": int(max_tokens),
        }
        bodies = [{**self._prompt_fields(i, prompt), **fields} for i, prompt in enumerate(messages)]
        num_drawn, copies = (1, n) if temperature == 0 else (int(n), 1)  # vLLM refuses n > 1 at temperature 0
        replies = _Replies(self.model, [{} for _ in messages], num_drawn, copies)
        self._fill(replies, bodies, seeds, on_replies)
        if messages:
            for warning in replies.warnings(expects_variety=temperature > 0):
                log.warning("%s: %s", self.url, self.client.clean(warning))
        log_prob = [c.log_prob for i in range(len(messages)) for c in replies.completions(i)]
        return Rollouts(
            tuple(prompt for prompt in messages for _ in range(n)),
            tuple(response for i in range(len(messages)) for response in replies.responses(i)),
            samples=n,
            log_prob=np.array(log_prob, dtype=np.float64) if self.log_probs else None,
        )

    def _check_sampling(self, n: int, max_tokens: int, temperature: float) -> None:
        if not (0 <= temperature < math.inf and n >= 1 and max_tokens >= 1):
            raise GuerdonError(
                "sample: n and max_tokens must be at least 1 and temperature a number of at least 0, "
                f"got {n}, {max_tokens} and {temperature}. Change the one that is out of range."
            )
        if self.log_probs and temperature != 1:
            raise GuerdonError(
                f"sample: temperature must be 1 with log_probs, got {temperature}: servers differ in what their "
                "log-probabilities mean at other temperatures. Use temperature=1, or log_probs=False."
            )

    def _fill(
        self,
        replies: _Replies,
        bodies: list[dict[str, Any]],
        seeds: Sequence[tuple[int, int]],
        on_replies: OnReplies | None,
    ) -> None:
        """Request every reply. At most one request per worker is out, so that what one teaches serves the next."""
        todo = deque(
            Request(prompt, first, min(self.per_request, replies.num_drawn - first))
            for prompt in range(len(bodies))
            for first in range(0, replies.num_drawn, self.per_request)
        )
        bar = ProgressBar(len(bodies) * replies.num_drawn, "sample", "replies")
        num_workers = min(self.workers, len(todo) * self.per_request)
        with closing(bar), RequestPool(self.client, num_workers) as pool:
            while todo or pool.num_pending:
                while todo and pool.num_pending < self.workers:
                    request, *rest = todo.popleft().split(self._max_replies)
                    todo.extendleft(reversed(rest))
                    seed = _request_seed(seeds[request.prompt], request)
                    pool.submit(request, {**bodies[request.prompt], "n": request.count, "seed": seed})
                request, result = pool.next_result()
                if isinstance(result, TooManyReplies):  # a power of two, so that later calls divide n the same way
                    self._max_replies = min(self._max_replies, 1 << ((request.count - 1).bit_length() - 1))
                    todo.appendleft(request)
                    continue
                if isinstance(result, RequestFailed):
                    raise self._server_error(request.prompt, result, replies) from None
                if isinstance(result, Exception):
                    raise result
                replies.add(request, result)
                bar.advance(len(result))
                if missing := request.count - len(result):
                    todo.appendleft(Request(request.prompt, request.first + len(result), missing))
                    if len(result) == 1:
                        self._max_replies = 1
                if on_replies is not None and replies.is_complete(request.prompt):
                    on_replies(request.prompt, replies.responses(request.prompt))

    def _server_error(self, prompt: int, error: RequestFailed, replies: _Replies) -> ServerError:
        kind = PromptRefused if error.is_refused_request else ServerError
        log_prob = replies.log_prob() if self.log_probs else {}
        return kind(f"{self.url}: prompt {prompt}: {error.line}", replies.partial(), log_prob, prompt)

    # ---- What is sent ------------------------------------------------------------------------------------------------

    def _prompt_fields(self, position: int, prompt: Prompt) -> dict[str, Any]:
        """The fields of a request that hold the prompt: messages, or token ids if there is a tokenizer."""
        if not prompt:
            raise GuerdonError(f"prompt {position}: must have at least one message, got none. Drop the prompt.")
        if self.tokenizer is None:
            fields: dict[str, Any] = {"messages": [_chat_message(m) for m in with_system_message(prompt, self.system)]}
            if prompt.tools:
                fields["tools"] = [json.loads(tool) for tool in prompt.tools]
            return fields | ({"logprobs": True} if self.log_probs else {})
        try:
            text = render_prompt(self.tokenizer, prompt, template=self.template, system=self.system)
        except GuerdonError as error:
            raise GuerdonError(f"prompt {position}: {error}") from None
        ids = [int(token) for token in self.tokenizer(text, add_special_tokens=False)["input_ids"]]
        if not ids:
            raise GuerdonError(f"prompt {position}: must render to at least one token, got none. Drop the prompt.")
        return {"prompt": ids, **({"logprobs": 1} if self.log_probs else {})}


def _chat_message(message: Message) -> dict[str, Any]:
    """The message as the API takes it: lone surrogates replaced, arguments of tool calls as JSON text."""
    row = message_dict(message)
    row["content"] = replace_surrogates(row["content"])
    for call, row_call in zip(message.tool_calls, row.get("tool_calls", ()), strict=True):
        row_call["function"]["arguments"] = call.arguments
    return row


def _request_seed(seed: tuple[int, int], request: Request) -> int:
    return int(digest([*map(int, seed), request.first]), 16) % 2**31


@dataclass(frozen=True, slots=True)
class _Replies:
    """The replies of a call as they arrive: completions of each prompt by number.

    num_drawn: how many are requested per prompt. copies: how often each is then given.
    """

    author: str
    arrived: list[dict[int, Completion]]
    num_drawn: int
    copies: int

    def add(self, request: Request, completions: Sequence[Completion]) -> None:
        self.arrived[request.prompt].update(enumerate(completions, request.first))

    def is_complete(self, prompt: int) -> bool:
        return len(self.arrived[prompt]) == self.num_drawn

    def completions(self, prompt: int) -> list[Completion]:
        return [completion for _, completion in sorted(self.arrived[prompt].items())] * self.copies

    def responses(self, prompt: int) -> tuple[Response, ...]:
        return tuple(
            Response(c.text, finish="stop" if c.finish_reason == "stop" else "length", author=self.author or None)
            for c in self.completions(prompt)
        )

    def partial(self) -> dict[int, tuple[Response, ...]]:
        return {i: self.responses(i) for i, arrived in enumerate(self.arrived) if arrived}

    def log_prob(self) -> dict[int, list[float]]:
        return {i: [c.log_prob for c in self.completions(i)] for i, arrived in enumerate(self.arrived) if arrived}

    def warnings(self, expects_variety: bool) -> Iterator[str]:
        """What the rollouts do not show: unusual finish reasons, and seeds that make no difference."""
        completions = [c for arrived in self.arrived for c in arrived.values()]
        reasons = Counter(str(c.finish_reason)[:80] for c in completions if c.finish_reason not in ("stop", "length"))
        if reasons:
            counts = ", ".join(f"'{reason}' {count}" for reason, count in reasons.most_common(5))
            yield f"replies with other finish reasons count as cut at the length limit: {counts}"
        all_same = all(len({c.text for c in arrived.values()}) == 1 for arrived in self.arrived)
        if expects_variety and self.num_drawn > 1 and all_same and max(len(c.text) for c in completions) > 20:
            yield "all replies to a prompt are the same. Use per_request=1: each reply gets its own seed"
