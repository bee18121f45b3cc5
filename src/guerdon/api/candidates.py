"""Candidates: replies of several policies to each prompt, for judges and people to compare."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from guerdon.api.judging import calls_path
from guerdon.api.store import record_new_rows
from guerdon.config import BestOfNOptions, JudgeOptions, PolicyOptions, make
from guerdon.contracts import GuerdonError, Prompt, PromptLike, as_prompt
from guerdon.errors import field_error
from guerdon.io import writers
from guerdon.io.judge_file import read_judge
from guerdon.progress import ProgressBar

if TYPE_CHECKING:
    from guerdon.feedback.candidates import CandidatePolicy, Candidates, CandidateTally
    from guerdon.models.judges.calls import CallLog
    from guerdon.models.judges.driver import Respondent
    from guerdon.models.judges.metering import CountedLog
    from guerdon.store.database import Database

ITEM_KINDS = ("pairs", "all")
STORED_AT_ONCE = 64  # prompts whose items go into a store together


class Sampling(NamedTuple):
    """What came of a run: counts, and those of each policy. has_failed: of a policy, more calls gave no reply than its file's
    unresolved_max allows."""

    facts: dict[str, Any]
    by_policy: dict[str, dict[str, Any]]
    has_failed: bool


class _Loaded(NamedTuple):
    """A policy that can be drawn from, and what its calls cost."""

    policy: CandidatePolicy
    log: CountedLog
    options: JudgeOptions

    def facts(self, tally: CandidateTally) -> dict[str, Any]:
        is_priced = self.options.kind == "endpoint"
        return {**tally.facts(self.policy.name), **self.log.facts(self.options.currency, is_priced=is_priced)}


def is_policy_file(policy: str | Path) -> bool:
    """Whether a policy is named by a file like judge.yaml, not by its directory or hub name."""
    return Path(policy).suffix in (".yaml", ".yml")


def sample_candidates(
    policies: Sequence[str | Path],
    prompts: Sequence[PromptLike],
    *,
    out: str | Path | None = None,
    store: str | Path | None = None,
    items: str = "pairs",
    policy_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Sampling:
    """Draw n replies of each policy to each prompt. Keywords are BestOfNOptions: n, max_tokens, temperature, seed.

    policies: directories, hub names, or files like judge.yaml of a model behind a server or on this machine. Replies go to
    `out`, one row per prompt, and into a store, as items that nobody has judged; items: each two replies, or all replies of a
    prompt. Calls are kept in the store, or else in NAME.calls.db: the same call again draws only what failed.
    policy_options: PolicyOptions of policies that are no files.
    """
    from guerdon.feedback.candidates import CandidateTally, draw_candidates
    from guerdon.store.calls import open_call_log
    from guerdon.store.writer import count_rows

    chosen, questions = make(BestOfNOptions, options), [as_prompt(prompt) for prompt in prompts]
    _refuse_unusable(policies, questions, chosen, out, store, items)
    place = store if store is not None else calls_path(out or "")
    tally = CandidateTally()
    with ExitStack() as stack:
        Path(out or ".").parent.mkdir(parents=True, exist_ok=True)
        log = stack.enter_context(open_call_log(place, create=store is None))
        loaded = [_load(policy, policy_options or {}, chosen, log) for policy in policies]
        models = [each.policy for each in loaded]
        _refuse_one_name([model.name for model in models])
        drawn: Iterable[Candidates] = draw_candidates(models, questions, chosen)
        before = {} if store is None else count_rows(log.database)
        if store is not None:
            drawn = _stored(drawn, log.database, in_pairs=items == "pairs")
        if out is not None:
            drawn = _written(drawn, Path(out))
        bar = stack.enter_context(ProgressBar(len(questions), "sample", "prompts"))
        for candidates in drawn:
            tally.add(candidates)
            bar.advance(1, failed=tally.num_failed)
        facts: dict[str, Any] = {"prompts": tally.prompts, "prompts without a reply": tally.without_reply}
        if store is not None:
            new = record_new_rows(log.database, before, "sample", [model.name for model in models])
            facts |= {f"new {name}": new[name] for name in ("prompts", "responses", "items")}
    by_policy = {each.policy.name: each.facts(tally) for each in loaded}
    return Sampling(facts, by_policy, any(tally.failed_share(model.name) > model.failed_max for model in models))


# ---- Policies ------------------------------------------------------------------------------------------------------------


def _load(policy: str | Path, options: Mapping[str, Any], sampling: BestOfNOptions, log: CallLog) -> _Loaded:
    """The policy of a directory, a hub name, or a file."""
    from guerdon.feedback.candidates import CandidatePolicy
    from guerdon.models.judges.build import build_respondent
    from guerdon.models.judges.metering import CountedLog

    counted = CountedLog(log)
    is_file = is_policy_file(policy)
    judge = read_judge(policy) if is_file else JudgeOptions(kind="local", model=str(policy))
    if judge.kind == "local":
        own = {"device": judge.device, "dtype": judge.dtype} if is_file else options
        respondent = _local(make(PolicyOptions, {"base": judge.model, **own}), sampling, counted)
    else:
        respondent = build_respondent(judge, counted)
    return _Loaded(CandidatePolicy(judge.name or respondent.name, respondent, judge.unresolved_max), counted, judge)


def _local(options: PolicyOptions, sampling: BestOfNOptions, log: CallLog) -> Respondent:
    from guerdon.models.directory.policies import load_policy
    from guerdon.models.judges.local import local_respondent

    policy = load_policy(options)
    return local_respondent(policy, log, max_length=policy.max_prompt, width=sampling.prompts_at_once)


def _refuse_one_name(names: Sequence[str]) -> None:
    """Raise GuerdonError for two policies of one name: nobody could tell their replies apart."""
    for name in names:
        if names.count(name) > 1:
            raise GuerdonError(
                f"policies must have different names, got {name!r} twice. Write name: in one of the files."
            )


def _refuse_unusable(
    policies: Sequence[str | Path],
    prompts: Sequence[Prompt],
    options: BestOfNOptions,
    out: str | Path | None,
    store: str | Path | None,
    items: str,
) -> None:
    """Raise GuerdonError for a run that could not end well, before a model is loaded."""
    if out is None and store is None:
        raise GuerdonError("replies must have somewhere to go, got neither out nor store. Give --out or --store.")
    if items not in ITEM_KINDS:
        raise field_error("items", "pairs or all", items)
    if not policies or not prompts:
        missing = "prompt" if policies else "policy"
        raise GuerdonError(f"sample: at least one {missing} must be given, got none. Add one.")
    if store is not None and options.n * len(policies) < 2:
        raise field_error("best_of_n.n", "2 or more with one policy and a store, whose items are compared", options.n)
    for i, prompt in enumerate(prompts):
        if prompt.tools:
            where = prompt.location or f"prompt {i}"
            raise GuerdonError(f"{where}: tools must be left out here, got {len(prompt.tools)}. Leave the prompt out.")
    if out is not None:
        writers.require_jsonl_ending(out)
        receipt = Path(out).with_name(f"{Path(out).name}.made.json")
        if receipt.exists():
            raise GuerdonError(f"{out}: belongs to another run, of which {receipt.name} tells. Pass another path.")


# ---- Where replies go ----------------------------------------------------------------------------------------------------


def _stored(drawn: Iterable[Candidates], database: Database, in_pairs: bool) -> Iterator[Candidates]:
    """The same; what there is to judge is in the store when a prompt comes, some at a time."""
    from guerdon.store.items import unjudged_item
    from guerdon.store.writer import add_items

    rows = iter(drawn)
    while some := list(islice(rows, STORED_AT_ONCE)):
        items = (unjudged_item(each.prompt, responses)[0] for each in some for responses in each.comparable(in_pairs))
        add_items(database, items)
        yield from some


def _written(drawn: Iterable[Candidates], out: Path) -> Iterator[Candidates]:
    """The same; the file appears when the last prompt has come."""
    with writers.atomic_write(out, "wb") as file:
        for candidates in drawn:
            writers.write_all(file, writers.encode_json(candidates.row()) + b"\n")
            yield candidates
