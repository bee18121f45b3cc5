"""Options of a judge: what judge.yaml holds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from guerdon.config.base import Device, Options, Seed
from guerdon.errors import field_error

JudgeKind = Literal["endpoint", "local", "python", "reward_model", "implicit", "jury"]
JudgeMode = Literal["auto", "pair", "pair_samples", "pair_reasons", "score", "ranking"]
JudgeExecutor = Literal["api", "batch", "ray"]
Probability = Annotated[float, Field(ge=0, le=1)]

NEEDED: dict[JudgeKind, tuple[str, ...]] = {
    "endpoint": ("url", "model"),
    "local": ("model",),
    "python": ("function",),
    "reward_model": ("model",),
    "implicit": ("model",),
    "jury": ("judges",),
}
OF_ONE_KIND: dict[str, tuple[JudgeKind, ...]] = {
    "url": ("endpoint",),
    "key_env": ("endpoint",),
    "function": ("python",),
    "reference": ("implicit",),
    "beta": ("implicit",),
    "judges": ("jury",),
    "quorum": ("jury",),
    "weights": ("jury",),
    "dtype": ("local", "implicit"),
    "max_length": ("local",),
    "rubric": ("endpoint", "local"),
    "prices": ("endpoint",),
    "executor": ("endpoint",),
    "max_calls": ("endpoint", "jury"),
    "max_cost": ("endpoint", "jury"),
    "max_total_tokens": ("endpoint", "jury"),
}


OF_ONE_EXECUTOR: dict[str, tuple[JudgeExecutor, ...]] = {
    "folder": ("batch", "ray"),
    "workers": ("ray",),
    "poll_seconds": ("batch",),
}


class JudgeOptions(Options):
    """Who judges, by what, and how."""

    kind: JudgeKind = Field(
        "endpoint",
        description="A model behind an OpenAI-compatible server (endpoint), a causal language model on this machine (local), a "
        "Python function (python), a reward model (reward_model), the implicit reward of a DPO-trained policy against its "
        "reference (implicit), or several judges (jury).",
    )
    name: str | None = Field(None, description="Name under which its judgments are stored; by default, the model's.")
    model: str | None = Field(None, description="Name of the model on the server, a directory, or a hub name.")
    url: str | list[str] | None = Field(
        None, description="Address of the server, such as http://localhost:8000; several share the load."
    )
    key_env: str | None = Field(
        None, description="Environment variable that holds the server's key. The key itself is never written or shown."
    )
    function: str | None = Field(None, description="FILE.py:NAME of a function (prompt, first, second) -> log-odds.")
    reference: str | None = Field(
        None,
        description="The model that the policy was trained from, for an implicit reward; of adapters, by default, their base.",
    )
    beta: float = Field(
        0.1, gt=0, description="Beta of the DPO training: the implicit reward is beta times the log-ratio."
    )
    judges: list[dict[str, Any]] = Field(
        default_factory=list, description="The judges of a jury, each as in a judge.yaml."
    )
    quorum: int = Field(2, ge=1, description="Decisive verdicts that a jury needs; with fewer there is none.")

    weights: list[float] = Field(
        default_factory=list,
        description="Reliability of each judge of a jury in the mean of its log-odds; equal by default.",
    )

    mode: JudgeMode = Field(
        "auto",
        description="How it is asked: the log-probabilities of the verdict (pair), verdicts drawn several times (pair_samples), "
        "reasons first, then the verdict (pair_reasons), a score for each response (score), or a ranking of all responses to a "
        "prompt (ranking). auto takes pair where the server proves that it gives log-probabilities, else pair_samples.",
    )
    criterion: str = Field(
        "The better response does what the user wants, truthfully and clearly, and does no harm.",
        min_length=1,
        description="What better means, as the judge reads it.",
    )
    rubric: str | None = Field(
        None,
        description="Rubric file: each response gets a reward from its criteria, instead of a verdict on two responses; see "
        "docs/rubrics.md. Relative to where the command runs.",
    )
    template: str | None = Field(
        None, description="Template file to use instead of the shipped one of the mode; see `guerdon judge-prompt`."
    )
    both_orders: bool = Field(True, description="Judge each pair in both orders and average; one order is biased.")
    combine: Literal["prob_mean", "logit_mean"] = Field(
        "prob_mean", description="Average the two orders as probabilities or as log-odds."
    )
    samples: int = Field(
        3, ge=1, description="Verdicts drawn per order in pair_samples, and chains of reasons in pair_reasons."
    )
    temperature: float = Field(0.7, ge=0, description="Of drawn verdicts and reasons; log-probabilities are read at 0.")
    max_tokens: int = Field(
        512, ge=1, description="Tokens for reasons or a drawn verdict; doubled once where it was cut."
    )
    min_mass: Probability = Field(
        0.5, description="Probability that the verdicts must have together; below it there is no verdict."
    )
    clamp: tuple[Probability, Probability] | None = Field(
        None,
        description="Limits for P(first is better) after reasons, which saturate it; (0.4, 0.6) in constitutional AI.",
    )
    low: int = Field(1, description="Worst score of the scale.")
    high: int = Field(
        9, description="Best score of the scale; a single digit where scores come from log-probabilities."
    )
    score_by: Literal["auto", "log_probs", "text"] = Field(
        "auto", description="Read a score as the mean under the judge's probabilities, or as the number that it writes."
    )
    nats_per_point: float = Field(
        1.0,
        gt=0,
        description="Log-odds that a point of difference is worth in mode score; the judge card fits it to people.",
    )
    permutations: int = Field(2, ge=1, description="Orders in which a ranking is asked for.")
    reasks: int = Field(2, ge=0, description="Further questions after an answer that cannot be read.")
    seed: Seed = Field(0, description="Seed of orders, samples and tags.")
    unresolved_max: Probability = Field(
        0.02, description="Share of items without a verdict above which the run counts as failed (exit code 3)."
    )

    executor: JudgeExecutor = Field(
        "api",
        description="Who asks the server: this process (api), the provider's batches, which cost less and take hours (batch), or "
        "workers of Ray on one machine or many (ray).",
    )
    folder: str | None = Field(
        None,
        description="Folder for the requests and answers of executor batch or ray, which all workers share. A stopped run goes on "
        "from it; it holds nothing that is needed afterwards.",
    )
    workers: int = Field(2, ge=1, description="Workers of executor ray; each asks all servers.")
    poll_seconds: float = Field(30.0, gt=0, description="Seconds between looks at the batches of executor batch.")
    timeout: float = Field(120.0, gt=0, description="Seconds for one answer.")
    tries: int = Field(6, ge=1, description="Tries of a call that got no answer, 429 or 5xx.")
    concurrency: int = Field(8, ge=1, description="Calls in flight at the start, per server; it adapts.")
    max_concurrency: int = Field(64, ge=1, description="Most calls in flight, per server.")
    requests_per_minute: float | None = Field(None, gt=0, description="The server's limit on requests, where known.")
    tokens_per_minute: float | None = Field(None, gt=0, description="The server's limit on tokens, where known.")
    prices: str | None = Field(
        None,
        description="Price table: a dated TOML file of prices by model, see docs/judge.md. price_in and the others go over it. "
        "Relative to where the command runs.",
    )
    price_in: float | None = Field(None, ge=0, description="Price of a million tokens read; unknown where not given.")
    price_out: float | None = Field(
        None, ge=0, description="Price of a million tokens written; unknown where not given."
    )
    price_cached: float | None = Field(
        None, ge=0, description="Price of a million tokens read from the provider's cache."
    )
    currency: str = Field("USD", description="Currency of the prices.")
    price_date: str | None = Field(
        None, description="Day of the prices, kept with each call; a price table has its own."
    )
    max_calls: int | None = Field(None, ge=0, description="Stop before more calls than this.")
    max_cost: float | None = Field(None, ge=0, description="Stop before spending more than this; needs prices.")
    max_total_tokens: int | None = Field(
        None, ge=0, description="Stop before more tokens than this are read and written, of all calls together."
    )

    opponents: int | None = Field(
        None,
        ge=1,
        description="Responses that each is compared with where verdicts on pairs become rewards; all others by default.",
    )
    device: Device = Field("auto", description="Device of a judge on this machine.")
    dtype: Literal["float32", "bfloat16", "auto"] = Field(
        "float32",
        description="Type of the weights on this machine; in bfloat16, log-odds change a little with what is judged beside.",
    )
    max_length: int | None = Field(None, ge=16, description="Longest question of a local judge, in tokens.")

    def refuse_conflicts(self) -> None:
        """Refuse a judge that has what its kind would ignore, or options that contradict each other."""
        for name, kinds in OF_ONE_KIND.items():
            if self.kind not in kinds and self._differs(name):
                claim = f"left out for a judge of kind {self.kind}"
                raise field_error(f"judge.{name}", claim, getattr(self, name), f"Remove it, or set kind to {kinds[0]}.")
        for name, executors in OF_ONE_EXECUTOR.items():
            if self.executor not in executors and self._differs(name):
                claim, advice = (
                    f"left out with executor {self.executor}",
                    f"Remove it, or set executor to {executors[0]}.",
                )
                raise field_error(f"judge.{name}", claim, getattr(self, name), advice)
        if self.executor == "batch" and isinstance(self.url, list) and len(self.url) != 1:
            raise field_error("judge.url", "one address with executor batch", self.url, "Give the provider's.")
        if self.rubric is not None and self.mode not in ("auto", "pair_samples"):
            claim = "auto or pair_samples with a rubric, whose criteria have their own questions"
            raise field_error("judge.mode", claim, self.mode, "Remove it.")
        if self.low >= self.high:
            raise field_error("judge.high", f"above low={self.low}", self.high, "Correct the scale.")
        if self.clamp is not None and not self.clamp[0] <= self.clamp[1]:
            raise field_error("judge.clamp", "two probabilities, the lower one first", self.clamp, "Swap them.")
        is_unpriced = self.kind == "endpoint" and self.prices is None and None in (self.price_in, self.price_out)
        if self.max_cost is not None and is_unpriced:
            claim = "left out where prices are unknown"
            raise field_error("judge.max_cost", claim, self.max_cost, "Give price_in and price_out, or use max_calls.")

    def _differs(self, name: str) -> bool:
        """Whether an option is not the default."""
        return bool(getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True))

    def require(self) -> None:
        """Raise GuerdonError where an option is missing that a judge of this kind cannot do without."""
        if self.executor != "api" and not self.folder:
            raise field_error("judge.folder", f"given with executor {self.executor}", self.folder, "Add it.")
        for name in NEEDED[self.kind]:
            if not getattr(self, name):
                raise field_error(
                    f"judge.{name}", f"given for a judge of kind {self.kind}", getattr(self, name), "Add it."
                )
