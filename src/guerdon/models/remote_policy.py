"""Replies from a server that somebody else runs: any that speaks OpenAI's completions (vLLM, SGLang, llama.cpp, TGI).

What a server sends is plain text, hostile until escaped. Log-probabilities are nats.
"""

from __future__ import annotations

import copy
import difflib
import json
import logging
import math
import os
import random
import re
import ssl
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from queue import SimpleQueue
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import httpx2
import numpy as np

from guerdon.contracts import (
    GuerdonError,
    Prompt,
    PromptLike,
    Response,
    Rollouts,
    as_prompt,
    digest,
)
from guerdon.models.chat import PLAIN_TEMPLATE, whole
from guerdon.progress import Bar

log = logging.getLogger("guerdon")

BACKOFF, LONGEST = 0.5, 30.0  # seconds before the second try, doubled before each that follows, up to the longest
CONNECT = 10.0  # seconds to wait for a connection, and for the list of models
MOST_BYTES = 1 << 28  # of one answer; a server that sends more is broken or hostile
LATER = frozenset({408, 425, 429})  # of the statuses below 500, those that ask to come again
OF_PROMPT = frozenset({400, 413, 422})  # those that say what is wrong with a request
ABOUT_COUNT = re.compile(
    r"\bn\b|best_of|\bchoices?\b", re.IGNORECASE
)  # a refusal of n replies at once; llama.cpp's is a 500

Received = Callable[[int, tuple[Response, ...]], None]


class ServerError(GuerdonError):
    """A server that cannot be sampled from, or not any longer.

    partial: the replies that came before, by the place of their prompt; the last of these may have fewer than were asked.
    log_prob: theirs, where they were asked for. prompt: the place of the one that was given up.
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
    """A server that answers, but not this prompt: one that is too long for it, say."""


class RemotePolicy:
    """A policy behind HTTP. Sampling is plain as far as standard fields say so: temperature, top_p 1, no stop strings.

    Without a tokenizer the server renders the messages (v1/chat/completions). With one they are rendered here, by its own
    template ("model") or a plain one ("plain", or where it has none), and go out as token ids (v1/completions): the ids
    that a LanguagePolicy with this tokenizer would read.

    url: with or without /v1. system: said before prompts that have no system message. timeout: seconds for one answer.
    retries: tries after the first, on no answer, 429 (Retry-After is kept), 5xx and what is not an answer. workers:
    requests under way at once. per_request: most replies asked for in one request. api_key: sent as a bearer token and
    never shown; key_from_env takes it from OPENAI_API_KEY. log_probs: also ask for Rollouts.log_prob.

    A reply's finish is "stop" where the server says stop. All else is "length", a missing reason, abort, content_filter
    and tool_calls included: a reply that nobody says is finished never looks so.
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
            raise GuerdonError(f"template: is model or plain, got {template!r:.80}")
        if template == "plain" and tokenizer is None:
            raise GuerdonError("template: without a tokenizer the server's own is used; remedy: give a tokenizer too")
        if not (timeout > 0 and retries >= 0 and workers >= 1 and per_request >= 1):
            raise GuerdonError(
                "timeout is above 0, retries not below, workers and per_request at least 1, "
                f"got {timeout}, {retries}, {workers}, {per_request}"
            )
        self.url, self.model, self.system = _address(url), model, system
        self.tokenizer, self.template = tokenizer, template
        self.timeout, self.retries, self.workers, self.per_request = timeout, retries, workers, per_request
        self.log_probs = log_probs
        self._key = _key(api_key, key_from_env)
        self._most = per_request  # the most replies to one request that the server is known to give

    @property
    def fingerprint(self) -> str:
        """What tells this policy from others, as far as a client can know."""
        return digest([self.url, self.model, self.system, self.tokenizer is not None, self.template])

    def check(self) -> None:
        """Raise ServerError if the server does not answer within seconds, or does not serve the model."""
        seconds = min(self.timeout, CONNECT)
        try:
            with self._client(_context(), seconds) as client:
                status, headers, content = _fetch(client, "GET", f"{self.url}/models", None, seconds)
        except (httpx2.RequestError, _Malformed) as error:
            raise ServerError(f"{self.url}: {self._told(error, seconds)}; remedy: {_remedy(0)}") from None
        if status != 200:
            raise ServerError(
                f"{self.url}/models: {self._refusal(status, headers, content)}; remedy: {_remedy(status)}"
            )
        try:
            names = [str(each["id"]) for each in json.loads(content)["data"]]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ServerError(f"{self.url}/models: lists no models; remedy: {_remedy(404)}") from None
        if self.model not in names:
            close = difflib.get_close_matches(self.model, names, n=1, cutoff=0.4)
            served = (
                f"the nearest is {close[0]!r}" if close else f"served are {', '.join(map(repr, names[:9])) or 'none'}"
            )
            raise ServerError(f"{self.url}: {self.model!r} is not served; {self._clean(served)}")

    def sample(
        self,
        prompts: Sequence[PromptLike],
        n: int,
        max_tokens: int,
        temperature: float = 1.0,
        seed: int = 0,
        *,
        received: Received | None = None,
    ) -> Rollouts:
        """Draw n responses to each prompt, at most max_tokens each; those of one prompt stand together, in order.

        Every request has a seed of its own, made of `seed`, the prompt's place and the place of its first reply. Whether
        equal seeds say the same again is the server's affair. Temperature 0 asks once and repeats the reply.
        received(i, responses) is called in this thread as soon as prompt i has its n, in the order of arrival.
        Raises ServerError, with the replies that came before it, when a request is refused or the last try failed.
        """
        return self._sample(prompts, n, max_tokens, temperature, [(seed, i) for i in range(len(prompts))], received)

    def can_answer(self, prompt: PromptLike) -> bool:
        """Whether the server gives one token to a prompt at the first try."""
        once = copy.copy(self)
        once.retries = 0
        try:
            once.sample([prompt], 1, 1)
        except ServerError:
            return False
        return True

    def sample_with_seeds(
        self, prompts: Sequence[PromptLike], n: int, max_tokens: int, temperature: float, seeds: Sequence[int]
    ) -> Rollouts:
        """The same with a seed for each prompt: what `sample` asks for that prompt alone."""
        return self._sample(prompts, n, max_tokens, temperature, [(seed, 0) for seed in seeds], None)

    def _sample(
        self,
        prompts: Sequence[PromptLike],
        n: int,
        max_tokens: int,
        temperature: float,
        seeds: Sequence[tuple[int, int]],
        received: Received | None,
    ) -> Rollouts:
        if not (0 <= temperature < math.inf and n >= 1 and max_tokens >= 1):
            raise GuerdonError(
                f"sample: n and max_tokens are above 0 and temperature is not below, got {n}, {max_tokens}, {temperature}"
            )
        if self.log_probs and temperature != 1:
            raise GuerdonError(
                f"log_probs: servers differ in what they mean at a temperature other than 1, got {temperature}; "
                "remedy: temperature=1, or log_probs=False"
            )
        asked = [as_prompt(p) for p in prompts]
        bodies = [
            {
                **self._said(i, p),
                "model": self.model,
                "temperature": float(temperature),
                "top_p": 1.0,
                "max_tokens": int(max_tokens),
            }
            for i, p in enumerate(asked)
        ]
        num, copies = (1, n) if temperature == 0 else (int(n), 1)  # vLLM refuses n > 1 at temperature 0
        drawn = _Drawn(self.model, [{} for _ in asked], num, copies)
        try:
            self._draw(bodies, drawn, seeds, received)
        except _Failed as error:
            line = f"{self.url}: prompt {error.prompt}: {error.problem}; remedy: {error.remedy}"
            nats = drawn.log_prob() if self.log_probs else {}
            kind = PromptRefused if error.of_prompt else ServerError
            raise kind(line, drawn.partial(), nats, error.prompt) from None
        if asked:
            drawn.warn(self.url, alike=temperature > 0)
        log_prob = np.array([c.log_prob for i in range(len(asked)) for c in drawn.choices(i)], dtype=np.float64)
        return Rollouts(
            tuple(p for p in asked for _ in range(n)),
            tuple(r for i in range(len(asked)) for r in drawn.responses(i)),
            samples=n,
            log_prob=log_prob if self.log_probs else None,
        )

    def _draw(
        self,
        bodies: list[dict[str, Any]],
        drawn: _Drawn,
        seeds: Sequence[tuple[int, int]],
        received: Received | None,
    ) -> None:
        """Fill `drawn`. At most one request a worker is out, so that what is learned of the server serves the next."""
        todo = deque(
            _Piece(i, first, min(self.per_request, drawn.num - first))
            for i in range(len(bodies))
            for first in range(0, drawn.num, self.per_request)
        )
        bar = Bar(len(bodies) * drawn.num, "sample", "replies")
        with closing(bar), _Crew(self, min(self.workers, len(todo) * self.per_request)) as crew:
            while todo or crew.busy:
                while todo and crew.busy < self.workers:
                    piece, *rest = todo.popleft().split(self._most)
                    todo.extendleft(reversed(rest))
                    own = int(digest([*map(int, seeds[piece.prompt]), piece.first]), 16) % 2**31
                    crew.give(piece, {**bodies[piece.prompt], "n": piece.count, "seed": own})
                piece, answer = crew.take()
                if isinstance(answer, _TooMany):  # powers of two, so that every later call divides n alike
                    self._most = min(self._most, 1 << ((piece.count - 1).bit_length() - 1))
                    todo.appendleft(piece)
                    continue
                if isinstance(answer, Exception):
                    raise answer
                drawn.keep(piece, answer)
                bar.advance(len(answer))
                if short := piece.count - len(answer):
                    todo.appendleft(_Piece(piece.prompt, piece.first + len(answer), short))
                    if len(answer) == 1:
                        self._most = 1
                if received is not None and drawn.is_whole(piece.prompt):
                    received(piece.prompt, drawn.responses(piece.prompt))

    # ---- What is sent ------------------------------------------------------------------------------------------------

    def _said(self, place: int, prompt: Prompt) -> dict[str, Any]:
        turns = [{"role": m.role, "content": whole(m.content)} for m in prompt]
        if self.system is not None and prompt[:1] and prompt[0].role != "system":
            turns.insert(0, {"role": "system", "content": whole(self.system)})
        if not turns:
            raise GuerdonError(f"prompt {place}: holds no messages; remedy: drop it")
        if self.tokenizer is None:
            return {"messages": turns, **({"logprobs": True} if self.log_probs else {})}
        own = self.tokenizer.chat_template
        own = own.get("default") if isinstance(own, dict) else own
        try:
            text = self.tokenizer.apply_chat_template(
                turns,
                chat_template=(own if self.template == "model" else None) or PLAIN_TEMPLATE,
                tokenize=False,
                add_generation_prompt=True,
            )
        except Exception as error:  # a template is somebody's program: whatever it raises is about this conversation
            roles = ",".join(m.role for m in prompt)
            raise GuerdonError(
                f"prompt {place}: the chat template refuses a prompt of roles {roles}: {error}; remedy: reorder or merge the turns"
            ) from None
        ids = [int(token) for token in self.tokenizer(whole(text), add_special_tokens=False)["input_ids"]]
        if not ids:
            raise GuerdonError(f"prompt {place}: renders to no tokens; remedy: drop it")
        return {"prompt": ids, **({"logprobs": 1} if self.log_probs else {})}

    def _client(self, context: ssl.SSLContext, timeout: float) -> httpx2.Client:
        """One that verifies TLS and goes nowhere but where it is sent: a redirect would take the key along."""
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        limits = httpx2.Timeout(timeout, connect=min(timeout, CONNECT))
        return httpx2.Client(verify=context, follow_redirects=False, headers=headers, timeout=limits)

    # ---- What comes back ---------------------------------------------------------------------------------------------

    def _ask(self, client: httpx2.Client, body: Mapping[str, Any], piece: _Piece, crew: _Crew) -> list[_Choice]:
        """The answer to one request, tried again as often as is allowed; at most as many choices as were asked for."""
        where = f"{self.url}/{'completions' if 'prompt' in body else 'chat/completions'}"
        content = json.dumps(body).encode()
        problem, status, wait = "", 0, 0.0
        for tried in range(self.retries + 1):
            if tried:
                crew.tell(f"{self.url}: {problem}; trying again")
                if crew.stopped.wait(wait):
                    break
            wait = min(LONGEST, BACKOFF * 2**tried) * random.uniform(0.5, 1.0)  # workers do not come back in step
            status = 0
            try:
                status, headers, answer = _fetch(client, "POST", where, content, self.timeout)
                if status == 200:
                    return _choices(answer, piece.count, self.log_probs)
            except _NoLogProbs as error:
                raise _Failed(piece.prompt, str(error), "log_probs=False") from None
            except (httpx2.RequestError, _Malformed) as error:
                problem = self._told(error, self.timeout)
                if "CERTIFICATE_VERIFY_FAILED" in problem:
                    raise _Failed(piece.prompt, problem, "a server whose certificate this machine trusts") from None
                continue
            problem = self._refusal(status, headers, answer)
            if piece.count > 1 and status in (400, 422, 500, 501) and ABOUT_COUNT.search(problem):
                raise _TooMany
            if status < 500 and status not in LATER:
                raise _Failed(piece.prompt, problem, _remedy(status), of_prompt=status in OF_PROMPT)
            after = _retry_after(headers)
            if after > self.timeout:
                raise _Failed(piece.prompt, f"{problem}; wants to be left alone for {after:.0f} s", "come back then")
            wait = after + random.uniform(0, BACKOFF) if after else wait
        raise _Failed(piece.prompt, f"{problem} (tries: {tried + 1})", _remedy(status))

    def _told(self, error: Exception, seconds: float) -> str:
        if isinstance(error, httpx2.ConnectTimeout):
            return f"no connection within {min(seconds, CONNECT):g} s"
        if isinstance(error, httpx2.TimeoutException):
            return f"no answer within {seconds:g} s"
        return self._clean(str(error)) or type(error).__name__

    def _refusal(self, status: int, headers: Mapping[str, str], content: bytes) -> str:
        """A status other than 200 with what the server says about it, as one line."""
        if 300 <= status < 400:
            return f"HTTP {status} to {self._clean(headers.get('location', 'nowhere'))}, which is not followed"
        return f"HTTP {status}: {self._clean(_message(content)) or 'without a word'}"

    def _clean(self, text: str) -> str:
        """One short line, without the key and without what a terminal would obey."""
        if self._key:
            text = text.replace(self._key, "***")
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return text if len(text) <= 300 else text[:297] + "..."


# ---- Replies, as they come in ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Piece:
    """Replies `first` to `first + count` of a prompt: what one request asks for."""

    prompt: int
    first: int
    count: int

    def split(self, most: int) -> list[_Piece]:
        end = self.first + self.count
        return [_Piece(self.prompt, at, min(most, end - at)) for at in range(self.first, end, most)]


@dataclass(frozen=True, slots=True)
class _Choice:
    """A reply as the server gave it; log_prob is NaN where none was asked for."""

    text: str
    reason: str | None
    log_prob: float


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What has come in: for each prompt its choices by number, of which `num` are wanted and each is given `copies` times."""

    author: str
    found: list[dict[int, _Choice]]
    num: int
    copies: int

    def keep(self, piece: _Piece, choices: Sequence[_Choice]) -> None:
        self.found[piece.prompt].update(enumerate(choices, piece.first))

    def is_whole(self, prompt: int) -> bool:
        return len(self.found[prompt]) == self.num

    def choices(self, prompt: int) -> list[_Choice]:
        return [choice for _, choice in sorted(self.found[prompt].items())] * self.copies

    def responses(self, prompt: int) -> tuple[Response, ...]:
        return tuple(
            Response(c.text, finish="stop" if c.reason == "stop" else "length", author=self.author or None)
            for c in self.choices(prompt)
        )

    def partial(self) -> dict[int, tuple[Response, ...]]:
        return {i: self.responses(i) for i, found in enumerate(self.found) if found}

    def log_prob(self) -> dict[int, list[float]]:
        return {i: [choice.log_prob for choice in self.choices(i)] for i, found in enumerate(self.found) if found}

    def warn(self, url: str, alike: bool) -> None:
        """Say what a reader of the rollouts could not see: odd endings, and draws that are no draws."""
        every = [c for found in self.found for c in found.values()]
        odd = Counter(repr(c.reason)[:40] for c in every if c.reason not in ("stop", "length"))
        if odd:
            named = ", ".join(f"{reason} {count}" for reason, count in odd.most_common(5))
            log.warning("%s: replies that ended otherwise count as cut: %s", url, named)
        same = all(len({c.text for c in found.values()}) == 1 for found in self.found)
        if alike and self.num > 1 and same and max(len(c.text) for c in every) > 20:
            log.warning("%s: all replies to a prompt are the same; remedy: per_request=1 gives each its seed", url)


class _Failed(Exception):
    """A request that is given up: the prompt's place, what happened and the remedy; and whether another prompt might do."""

    def __init__(self, prompt: int, problem: str, remedy: str, *, of_prompt: bool = False) -> None:
        super().__init__(problem)
        self.prompt, self.problem, self.remedy, self.of_prompt = prompt, problem, remedy, of_prompt


class _TooMany(Exception):
    """The server does not give this many replies to one request."""


class _Malformed(Exception):
    """An answer that is none."""


class _NoLogProbs(Exception):
    """A server that does not say how likely its tokens were will not say it at the next try."""


class _Crew:
    """Threads with a connection each. They are daemons: neither Ctrl-C nor the interpreter's end waits for an answer."""

    def __init__(self, policy: RemotePolicy, num: int) -> None:
        self.policy, self.busy, self.told = policy, 0, False
        self.stopped = threading.Event()
        self.jobs: SimpleQueue[tuple[_Piece, dict[str, Any]] | None] = SimpleQueue()
        self.done: SimpleQueue[tuple[_Piece, list[_Choice] | Exception]] = SimpleQueue()
        context = _context()
        num = min(num, policy.workers)
        self.staff = [threading.Thread(target=self._work, args=(context,), daemon=True) for _ in range(num)]

    def __enter__(self) -> _Crew:
        for each in self.staff:
            each.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopped.set()
        for _ in self.staff:
            self.jobs.put(None)
        if kind is None:  # then all of them are idle
            for each in self.staff:
                each.join()

    def give(self, piece: _Piece, body: dict[str, Any]) -> None:
        self.busy += 1
        self.jobs.put((piece, body))

    def take(self) -> tuple[_Piece, list[_Choice] | Exception]:
        taken = self.done.get()
        self.busy -= 1
        return taken

    def tell(self, line: str) -> None:
        """Warn of the first trouble only: a dead server would say it once a request."""
        if not self.told and not self.stopped.is_set():
            self.told = True
            log.warning("%s", line)

    def _work(self, context: ssl.SSLContext) -> None:
        with self.policy._client(context, self.policy.timeout) as client:
            while (job := self.jobs.get()) is not None and not self.stopped.is_set():
                piece, body = job
                answer: list[_Choice] | Exception
                try:
                    answer = self.policy._ask(client, body, piece, self)
                except Exception as error:  # raised again in the thread that asked
                    answer = error
                self.done.put((piece, answer))


# ---- HTTP and JSON -----------------------------------------------------------------------------------------------------


@cache
def _context() -> ssl.SSLContext:
    """Whom to trust; reading the certificates takes longer than a request."""
    return httpx2.create_ssl_context()


def _fetch(
    client: httpx2.Client, method: str, url: str, content: bytes | None, seconds: float
) -> tuple[int, httpx2.Headers, bytes]:
    """Status, headers and body. A client's own timeout starts anew with every byte; this one does not."""
    until = time.monotonic() + seconds
    parts, size = [], 0
    with client.stream(method, url, content=content) as answer:
        for part in answer.iter_bytes():
            parts.append(part)
            size += len(part)
            if size > MOST_BYTES:
                raise _Malformed(f"an answer of more than {MOST_BYTES >> 20} MiB")
            if time.monotonic() > until:
                raise httpx2.ReadTimeout("the answer drips")
        return answer.status_code, answer.headers, b"".join(parts)


def _choices(content: bytes, count: int, log_probs: bool) -> list[_Choice]:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _Malformed(f"not JSON ({error})") from None
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices or not all(isinstance(each, dict) for each in choices):
        raise _Malformed(f"no choices in the answer: {_message(content)[:200]}")
    if all(type(each.get("index")) is int for each in choices):
        choices = sorted(choices, key=lambda each: each["index"])
    return [_choice(each, log_probs) for each in choices[:count]]


def _choice(each: Mapping[str, Any], log_probs: bool) -> _Choice:
    message = each.get("message")
    text = message.get("content") if isinstance(message, dict) else each.get("text", 0)
    if text is None:  # a tool call, or a thought that the server keeps to itself
        text = ""
    if not isinstance(text, str):
        raise _Malformed("a choice without text")
    reason = each.get("finish_reason")
    nats = _nats(each.get("logprobs")) if log_probs else math.nan
    return _Choice(whole(text), reason if isinstance(reason, str) else None, nats)


def _nats(found: Any) -> float:
    """Sum over the tokens of a choice, in either dialect."""
    try:
        each = [t["logprob"] for t in found["content"]] if "content" in found else found["token_logprobs"]
        total = math.fsum(each)
    except (TypeError, KeyError, ValueError, OverflowError):
        total = math.nan
    if not math.isfinite(total):
        raise _NoLogProbs("a choice without finite log-probabilities")
    return total


def _message(content: bytes) -> str:
    """What a server says is wrong, wherever it puts it."""
    text = content[:100_000].decode("utf-8", "replace")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return text
    for key in ("error", "message", "detail"):
        if isinstance(found, dict) and found.get(key):
            found = found[key]
    return found if isinstance(found, str) else text


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds, from a number or a date; 0.0 where there is none."""
    said = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d*)?", said):
        return float(said)
    try:
        until = parsedate_to_datetime(said)
    except (ValueError, TypeError):
        return 0.0
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


def _remedy(status: int) -> str:
    if 300 <= status < 400:
        return "give that address as url, if it is the server's"
    return {
        0: "see that the server runs at this url and what its log says, or raise timeout or retries",
        401: "give the server's api_key",
        403: "give an api_key that may use this model",
        404: "see that url and model are the server's; RemotePolicy.check names what it serves",
        429: "fewer workers, or more retries",
    }.get(status, "see the server's log" if status >= 500 or status == 200 else "change what the server refuses")


def _address(url: str) -> str:
    """scheme://host/.../v1, without a slash behind."""
    said = url.strip()
    try:
        parts = urlsplit(said)
        _, has_host = parts.port, bool(parts.hostname)  # a port that is no number raises
    except ValueError:
        raise GuerdonError("url: cannot be read; remedy: one such as http://localhost:8000") from None
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise GuerdonError(
            "url: names a user, a query or a fragment, which are not sent; remedy: a key goes into api_key"
        )
    if parts.scheme not in ("http", "https") or not has_host:
        raise GuerdonError(f"url: begins with http:// or https:// and names a host, got {said!r:.80}")
    base = said.rstrip("/").removesuffix("/v1").rstrip("/") + "/v1"
    try:
        return str(httpx2.URL(base))
    except httpx2.InvalidURL as error:
        raise GuerdonError(f"url: {error}, got {said!r:.80}") from None


def _key(api_key: str | None, from_env: bool) -> str | None:
    if api_key is not None and from_env:
        raise GuerdonError("api_key: given, and key_from_env too; remedy: one of them")
    key = os.environ.get("OPENAI_API_KEY") if from_env else api_key
    if from_env and not key:
        raise GuerdonError(
            "key_from_env (policy.server_key_from_env): OPENAI_API_KEY is not set; remedy: export it, or leave the option out"
        )
    if key is not None and not re.fullmatch(r"[!-~]+", key):
        raise GuerdonError(
            "api_key: is printable ASCII without spaces; remedy: strip the line end of a key read from a file"
        )
    return key
