"""Every option of every stage, with a sentence each. Defaults, then a recipe, then a YAML file, then dotted overrides."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from guerdon.contracts import GuerdonError

Moment = Annotated[float, Field(ge=0, lt=1)]  # of AdamW: the share that a running mean keeps
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # what every generator takes


class Options(BaseModel):
    """One stage's options: frozen, strict about names."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class ImportOptions(Options):
    """Turn someone's file into comparisons."""

    format: str = Field(
        "auto",
        description="Format of the source: native, hh, trl, csv, scores or votes; auto looks at the first rows.",
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Which source column holds what, as ours=theirs: prompt, first, second, label, chosen, rejected, ...",
    )
    strict: bool = Field(False, description="Stop at the first bad row; otherwise bad rows go to rejected.jsonl.")
    hub_split: str = Field("train", description="Split to read when the source is a data set name on the hub.")
    source: str | None = Field(None, description="Name written as the source of every row that names none.")


class CheckOptions(Options):
    """Look for what is wrong with comparisons."""

    length_auc_warn: float = Field(
        0.60, ge=0.5, le=1, description="Warn when length alone predicts the verdict this well (AUC)."
    )
    max_examples: int = Field(5, ge=0, description="How many example rows to name under each finding.")


class SplitOptions(Options):
    """Divide comparisons by prompt group, deterministically by hash."""

    train: float = Field(0.8, ge=0, le=1, description="Share of groups to train on.")
    calibrate: float = Field(
        0.1, ge=0, le=1, description="Share of groups to fit the temperature on, and to stop early by."
    )
    audit: float = Field(0.1, ge=0, le=1, description="Share of groups the audit sees; nothing else ever does.")
    salt: str = Field(  # the name of 0.1, kept so that no split changes
        "assay", description="Changes which groups fall where; same salt, same split, on any machine."
    )


class ModelOptions(Options):
    """The language model that gets a scalar head, and how text reaches it."""

    base: str = Field(
        "starter", description="Hub name or directory of the model to start from; 'starter' is the offline kit's."
    )
    revision: str | None = Field(None, description="Revision of a hub model.")
    trust_remote_code: bool = Field(
        False, description="Run code that comes with the model. Only for authors you trust."
    )
    dtype: Literal["float32", "bfloat16", "auto"] = Field(
        "float32",
        description="Type of the backbone's weights; head and scores stay float32. auto is bfloat16 where the machine is fast at it.",
    )
    autocast: Literal["no", "bfloat16", "auto"] = Field(
        "no",
        description="Compute matrix products in bfloat16 over float32 weights; auto does so where the machine is fast at it.",
    )
    attention: Literal["sdpa", "eager"] = Field(
        "sdpa", description="transformers' attention; eager is faster for short texts on a CPU, sdpa for all else."
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N.")
    max_length: int = Field(1024, ge=8, description="Most tokens of prompt and response together that the model sees.")
    truncation: Literal["refuse", "drop", "left"] = Field(
        "refuse",
        description="A longer text is an error, or its comparison is dropped and counted, or the prompt loses its beginning.",
    )
    template: Literal["model", "plain"] = Field(
        "model", description="Chat template: the tokenizer's own, or 'plain' (Role: text) for models that have none."
    )
    system: str | None = Field(
        None, description="System message put before prompts that have none; stored with the model."
    )
    lora_rank: int = Field(0, ge=0, description="Rank of LoRA adapters; 0 trains every weight. The head always trains.")
    lora_alpha: int = Field(32, ge=1, description="Scale of the adapters; the update is multiplied by alpha / rank.")
    lora_targets: list[str] = Field(
        default_factory=list,
        description="Names of the linear layers that get adapters; empty means every one in the backbone.",
    )
    attributes: list[str] = Field(
        default_factory=list,
        description="Names of rated attributes, one head each, for loss 'attributes'; empty is one head.",
    )
    head_scale: float = Field(
        1.0,
        ge=0,
        description="Spread of a fresh head, in 1/sqrt(hidden size + 1); 0.02 learns better from a few hundred comparisons.",
    )
    heads: int = Field(
        1,
        ge=1,
        description="Heads on the one backbone, each drawn apart: an ensemble at the cost of one pass, for every loss but 'attributes'.",
    )


class TrainOptions(Options):
    """One optimization run over comparisons."""

    loss: Literal["bradley_terry", "rao_kupper", "plackett_luce", "all_pairs", "attributes"] = Field(
        "bradley_terry", description="Likelihood of the verdicts; see docs/train.md for which data each takes."
    )
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="Chance that a verdict is the wrong way round.")
    margin_scale: float = Field(
        0.0, ge=0, description="Nats of margin asked for per unit of verdict strength; 0 asks for none."
    )
    centering: float = Field(
        0.01, ge=0, description="Weight of the penalty that keeps rewards centered on 0; never changes a margin."
    )
    bootstrap: bool = Field(
        False,
        description="Weigh each comparison by a Poisson draw of its own for each head: members of an ensemble then see other data.",
    )
    lr: float = Field(2e-5, gt=0, description="Peak learning rate.")
    head_lr: float | None = Field(
        None, gt=0, description="Peak learning rate of the head; the same as lr unless given."
    )
    epochs: float = Field(1.0, gt=0, description="Passes over the data.")
    max_steps: int | None = Field(None, ge=1, description="Stop after this many optimizer steps, whatever epochs says.")
    batch_size: int = Field(16, ge=1, description="Comparisons an optimizer step, over all processes.")
    micro_tokens: int = Field(
        2048,
        ge=16,
        description="Most computed tokens in one forward pass; changes memory, never the result. One comparison may take twice "
        "as many, and with train.shard any.",
    )
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "cosine", description="How the learning rate falls after warm-up."
    )
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of steps over which the learning rate rises from 0.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decoupled decay; not on the head, norms or biases.")
    betas: tuple[Moment, Moment] = Field((0.9, 0.999), description="AdamW's moments.")
    eps: float = Field(1e-8, gt=0, description="AdamW's denominator floor.")
    clip: float = Field(1.0, ge=0, description="Largest gradient norm; 0 does not clip.")
    compile: bool = Field(
        False, description="Fuse each layer's small operations with torch.compile: needs a C++ compiler and a minute."
    )
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass: less memory, more time."
    )
    shard: bool = Field(
        False,
        description="Share weights, gradients and moments out between the processes of a launcher (FSDP2); never changes the result.",
    )
    eval_every: int = Field(
        0, ge=0, description="Steps between held-out evaluations; 0 evaluates at the end of each epoch."
    )
    patience: int = Field(
        0, ge=0, description="Stop after this many evaluations without a better held-out loss; 0 never stops early."
    )
    save_every: int = Field(50, ge=0, description="Steps between checkpoints; 0 saves none.")
    seed: Seed = Field(0, description="Seeds the head, the order of the data and nothing else (dropout is 0).")
    report_to: list[str] = Field(
        default_factory=list, description="Trackers besides metrics.jsonl: trackio, tensorboard, wandb, mlflow."
    )


class CalibrateOptions(Options):
    """Make the odds mean what they say."""

    method: Literal["temperature", "isotonic"] = Field(
        "temperature",
        description="One scale, which gives a reward model; or, on 1000 pairs and more, a monotone curve, which gives a judge.",
    )
    temperature: bool = Field(True, description="Fit one temperature by held-out likelihood.")
    bins: int = Field(15, ge=2, description="Equal-mass bins of the calibration error.")
    seed: Seed = Field(0, description="Seeds the simulated null and the bootstrap.")


class UncertaintyOptions(Options):
    """Measure how sure a model may be, and where its data lie."""

    most: int = Field(
        20_000,
        ge=1,
        description="Most training comparisons read, drawn by hash of the group and counted for all of them.",
    )
    prior_precision: float | None = Field(
        None, gt=0, description="Precision of the head's prior; the one of largest evidence unless given."
    )


class AuditOptions(Options):
    """What to measure of a reward model, and how."""

    only: list[str] = Field(default_factory=list, description="Parts to measure; all that apply where none is named.")
    skip: list[str] = Field(default_factory=list, description="Parts to leave out, such as the slow ones.")
    bins: int = Field(15, ge=2, description="Equal-mass bins of confidence in the reliability curve.")
    draws: int = Field(2000, ge=100, description="Bootstrap draws, by prompt group, for every interval.")
    null_draws: int = Field(
        1000, ge=100, description="Simulated data sets under perfect calibration for the calibration error's null."
    )
    hygiene_rows: int = Field(32, ge=2, description="Responses scored again in other batches for the hygiene gate.")
    worst: int = Field(8, ge=0, description="Confident mistakes shown in full for a person to read.")
    cue_rows: int = Field(
        100, ge=1, description="Prompts whose answers are edited to see which cues and which errors move the reward."
    )
    abstain_error: float = Field(
        0.2,
        gt=0,
        lt=0.5,
        description="Share of wrong answers that may be left once the model abstains where it is unsure.",
    )
    shift_rows: int = Field(
        100,
        ge=0,
        description="Replies made strange in each of four ways, to see whether the model notices; 0 makes none.",
    )
    seed: Seed = Field(0, description="Seeds the bootstrap and the null.")


class BenchmarkOptions(Options):
    """Put a reward model, or scores that are known already, on a public benchmark."""

    draws: int = Field(2000, ge=100, description="Bootstrap draws, by prompt, for every interval.")
    hygiene_rows: int = Field(32, ge=4, description="Responses scored again in other batches for the hygiene gate.")
    hub_split: str | None = Field(
        None, description="Split to read of a data set on the hub; the published one of a known benchmark unless given."
    )
    seed: Seed = Field(0, description="Seeds the bootstrap.")


class ScoreOptions(Options):
    """Score responses."""

    batch_tokens: int = Field(
        4096, ge=16, description="Most computed tokens in one forward pass; changes memory, never a score."
    )
    calibrated: bool = Field(True, description="Apply the temperature stored with the model.")
    workers: int = Field(
        1,
        ge=1,
        description="Processes that score a file, each with the model; they share the cores, or the accelerators.",
    )


class PolicyOptions(Options):
    """The language model that is optimized, or sampled from."""

    base: str = Field(
        "starter", description="Hub name or directory of a causal language model; 'starter' is the offline kit's."
    )
    revision: str | None = Field(None, description="Revision of a hub model.")
    trust_remote_code: bool = Field(
        False, description="Run code that comes with the model. Only for authors you trust."
    )
    dtype: Literal["float32", "bfloat16", "auto"] = Field(
        "float32", description="Type of the weights; auto is bfloat16 where the machine is fast at it."
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N.")
    system: str | None = Field(None, description="System message put before prompts that have none.")
    template: Literal["model", "plain"] = Field(
        "model", description="Chat template: the tokenizer's own, or 'plain' (Role: text) for models that have none."
    )
    max_prompt: int = Field(
        1024, ge=1, description="Most tokens of a rendered prompt; longer prompts are left out, counted and named."
    )
    stop: list[str] = Field(
        default_factory=list,
        description="Tokens that end a reply besides the model's own end tokens and its template's end of turn.",
    )
    lora_rank: int = Field(
        16,
        ge=0,
        description="Rank of the adapters that are trained; 0 trains every weight, with a frozen copy as reference.",
    )
    lora_alpha: int = Field(32, ge=1, description="Scale of the adapters; the update is multiplied by alpha / rank.")
    lora_targets: list[str] = Field(
        default_factory=list, description="Names of the linear layers that get adapters; empty means every one."
    )
    server: str | None = Field(
        None, description="URL of an OpenAI-compatible server (vLLM, SGLang) that samples instead; base is its model."
    )
    server_timeout: float = Field(600.0, gt=0, description="Seconds to wait for one answer of the server.")
    server_retries: int = Field(8, ge=0, description="Tries after the first, where the server fails or is busy.")
    server_workers: int = Field(16, ge=1, description="Requests to the server under way at once.")
    server_key_from_env: bool = Field(
        False,
        description="Send the OPENAI_API_KEY of the environment to the server as its token; it is stored nowhere.",
    )
    server_log_probs: bool = Field(
        False, description="Ask the server for log-probabilities too: exact KL of best-of-N, at temperature 1 only."
    )


class BestOfNOptions(Options):
    """Draw N replies to each prompt and keep the one the reward model likes best."""

    n: int = Field(16, ge=1, description="Replies drawn for each prompt.")
    max_tokens: int = Field(64, ge=1, description="Most tokens in a reply.")
    temperature: float = Field(
        1.0, gt=0, description="Of the softmax that replies are drawn from; nothing else shapes it."
    )
    prompts_at_once: int = Field(
        8, ge=1, description="Prompts sampled and scored together; changes speed and memory, never a reply."
    )
    most_n: int | None = Field(
        None, ge=1, description="Largest n of the curve; N/4 unless given, because close to N it is one lucky draw."
    )
    draws: int = Field(2000, ge=100, description="Bootstrap draws, by prompt, for every interval.")
    seed: Seed = Field(0, description="Seeds the draws; those of a prompt depend on it and the prompt's place only.")


class OptimizeOptions(Options):
    """Reinforcement learning of a policy against a reward: PPO, RLOO or GRPO."""

    baseline: Literal["value", "leave_one_out", "group"] = Field(
        "value",
        description="What a reply is compared with: a value model (PPO), its prompt's other samples (RLOO), their mean and spread (GRPO).",
    )
    updates: int = Field(100, ge=1, description="Batches of rollouts, each learned from and thrown away.")
    prompts: int = Field(32, ge=1, description="Prompts a batch.")
    samples: int = Field(1, ge=1, description="Replies a prompt; leave_one_out and group need at least 2.")
    max_tokens: int = Field(64, ge=1, description="Most tokens in a reply.")
    temperature: float = Field(1.0, gt=0, description="Divides the logits alike in rollouts, reference and update.")
    epochs: int = Field(4, ge=1, description="Passes over a batch of rollouts.")
    minibatches: int = Field(1, ge=1, description="Optimizer steps a pass; shuffled anew each pass.")
    micro_tokens: int = Field(
        4096, ge=16, description="Most tokens in one forward pass; changes memory, never the result."
    )
    lr: float = Field(1e-4, gt=0, description="Peak learning rate; falls linearly to 0.")
    value_lr: float | None = Field(
        None, gt=0, description="Peak learning rate of the value head; the same as lr unless given."
    )
    betas: tuple[Moment, Moment] = Field((0.9, 0.999), description="AdamW's moments.")
    eps: float = Field(1e-5, gt=0, description="AdamW's denominator floor.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decoupled decay; not on heads, norms or biases.")
    grad_clip: float = Field(1.0, ge=0, description="Largest gradient norm; 0 does not clip.")
    clip: float = Field(0.2, gt=0, description="How far the ratio to the old policy may move a token's loss.")
    value_clip: float = Field(0.2, gt=0, description="How far a value may move from the old one within a batch.")
    value_coef: float = Field(0.1, ge=0, description="Weight of the value loss.")
    value: Literal["head", "reward"] = Field(
        "head",
        description="A head on the policy's own backbone, or a model of its own that starts as a copy of the reward model.",
    )
    value_warmup: int = Field(
        0, ge=0, description="Updates in which only the value model learns, before the policy moves."
    )
    gamma: float = Field(1.0, gt=0, le=1, description="Discount a token.")
    lam: float = Field(0.95, ge=0, le=1, description="GAE's lambda.")
    kl_coef: float = Field(
        0.05, ge=0, description="Nats of reward charged for a nat of KL to the reference, token by token."
    )
    kl_target: float | None = Field(
        None, gt=0, description="KL to hold, nats a reply: kl_coef then adapts (Ziegler 2019); fixed unless given."
    )
    kl_horizon: float = Field(10000, gt=0, description="Replies over which an adaptive kl_coef reacts.")
    reward_scale: Literal["reference", "running", "none"] = Field(
        "none",
        description="Divide scores by the spread stored with the model (its mean taken off), or by a running one (mean left).",
    )
    reward_clip: float | None = Field(None, gt=0, description="Largest absolute score, after scaling.")
    unfinished: float = Field(
        1.0, ge=0, description="Taken off the score of a reply that was cut at max_tokens, after scaling."
    )
    whiten_rewards: bool = Field(False, description="Divide a batch's token rewards by their spread; the mean stays.")
    gradient_checkpointing: bool = Field(False, description="Recompute activations: less memory, more time.")
    max_kl: float | None = Field(
        None, gt=0, description="Stop when a batch's mean KL to the reference passes this, nats a reply."
    )
    max_kl_step: float | None = Field(
        None,
        gt=0,
        description="End a batch's epochs when the policy has moved this far from the one that drew it, nats a token.",
    )
    min_entropy: float | None = Field(None, gt=0, description="Stop when mean entropy falls below, nats a token.")
    max_length: float | None = Field(None, gt=0, description="Stop when the mean reply is longer, tokens.")
    min_length: float | None = Field(None, gt=0, description="Stop when the mean reply is shorter, tokens.")
    check_every: int = Field(
        10, ge=0, description="Updates between checks on held-out prompts (proxy, gold, KL); 0 never checks."
    )
    check_prompts: int = Field(64, ge=1, description="Held-out prompts of a check.")
    stop_when: Literal["never", "over_optimized"] = Field(
        "never", description="Stop when the monitor says that gold has fallen from its best, beyond doubt."
    )
    keep: Literal["last", "best_gold"] = Field(
        "last", description="Which policy is saved: the last, or the best by gold."
    )
    save_every: int = Field(10, ge=0, description="Updates between checkpoints; 0 saves the last only.")
    seed: Seed = Field(0, description="Seeds prompts, draws and the order of minibatches.")


class TaxOptions(Options):
    """What an optimized policy can do less well than before."""

    tasks: list[str] = Field(
        default_factory=list,
        description="Tasks of the offline battery, such as text or minimal_pairs; empty is all, docs/tax.md lists them.",
    )
    form: Literal["both", "plain", "chat"] = Field(
        "both",
        description="Read given texts plainly, as replies in the chat template, or both; alike for both policies.",
    )
    max_tokens: int = Field(64, ge=1, description="Most tokens in a sampled reply.")
    temperature: float = Field(1.0, gt=0, description="Of the softmax that replies are drawn from.")
    micro_tokens: int = Field(
        4096, ge=16, description="Most tokens in one forward pass; changes memory, never the result."
    )
    lm_eval: list[str] = Field(
        default_factory=list, description="Tasks of lm-evaluation-harness besides, by name; needs the extra lm-eval."
    )
    lm_eval_include: str | None = Field(
        None, description="Folder of task files of your own, as lm-eval's --include_path."
    )
    lm_eval_limit: int | None = Field(None, ge=1, description="Documents of each such task; all unless given.")
    draws: int = Field(2000, ge=100, description="Bootstrap draws, by item, for every interval.")
    seed: Seed = Field(0, description="Seeds the items made from templates, the sampled replies and the bootstrap.")


class QuickstartOptions(Options):
    """The main job, end to end."""

    comparisons: int = Field(
        2000, ge=20, description="How many comparisons to build from the starter kit's human ratings."
    )
    samples: int = Field(16, ge=2, description="Replies drawn for each prompt when best-of-n is shown.")
    sample_tokens: int = Field(40, ge=1, description="Most tokens in a sampled reply.")
    sample_prompts: int = Field(3, ge=0, description="How many prompts to show best-of-n on; 0 skips it.")


class Config(Options):
    """All stages' options together; this is what a run writes as config.yaml and what --config reads back."""

    imports: ImportOptions = Field(default_factory=ImportOptions, description="Reading other people's files.")
    check: CheckOptions = Field(default_factory=CheckOptions, description="Data hygiene.")
    split: SplitOptions = Field(default_factory=SplitOptions, description="Train, calibrate and audit parts.")
    model: ModelOptions = Field(default_factory=ModelOptions, description="The model.")
    train: TrainOptions = Field(default_factory=TrainOptions, description="Training.")
    calibrate: CalibrateOptions = Field(default_factory=CalibrateOptions, description="Calibration.")
    uncertainty: UncertaintyOptions = Field(default_factory=UncertaintyOptions, description="Uncertainty of one model.")
    audit: AuditOptions = Field(default_factory=AuditOptions, description="The audit.")
    benchmark: BenchmarkOptions = Field(default_factory=BenchmarkOptions, description="Public benchmarks.")
    score: ScoreOptions = Field(default_factory=ScoreOptions, description="Scoring.")
    policy: PolicyOptions = Field(default_factory=PolicyOptions, description="The policy.")
    best_of_n: BestOfNOptions = Field(default_factory=BestOfNOptions, description="Best-of-N.")
    optimize: OptimizeOptions = Field(default_factory=OptimizeOptions, description="Reinforcement learning.")
    tax: TaxOptions = Field(default_factory=TaxOptions, description="The alignment tax.")
    quickstart: QuickstartOptions = Field(default_factory=QuickstartOptions, description="The quickstart.")


def build(*layers: Mapping[str, Any], overrides: Sequence[str] = ()) -> Config:
    """A Config from nested mappings, later ones winning, then overrides such as "train.lr=1e-5".

    Raises GuerdonError naming the key, the value and the nearest known key.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        _merge(merged, layer)
    for override in overrides:
        _merge(merged, _parse_override(override))
    _refuse_unknown(merged)
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        raise _one_line(error) from None


Kind = TypeVar("Kind", bound=Options)


def make(kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    """One stage's options from keywords; GuerdonError names the key, the value and the nearest known key."""
    if unknown := [name for name in values if name not in kind.model_fields]:
        raise GuerdonError(
            f"{unknown[0]}: no such option of {kind.__name__}{_nearest(unknown[0], list(kind.model_fields))}"
        )
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise _one_line(error) from None


def known_keys() -> Iterator[tuple[str, Any]]:
    """Each dotted option with its pydantic field."""
    for stage, field in Config.model_fields.items():
        for name, option in field.annotation.model_fields.items():  # type: ignore[union-attr]
            yield f"{stage}.{name}", option


def _one_line(error: ValidationError) -> GuerdonError:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return GuerdonError(f"{place}: {first['msg'].lower()}, got {first['input']!r}; remedy: see docs/options.md")


def _refuse_unknown(merged: Mapping[str, Any]) -> None:
    keys = [key for key, _ in known_keys()]
    for stage, options in merged.items():
        if stage not in Config.model_fields:
            raise GuerdonError(f"{stage}: no such option{_nearest(stage, [*Config.model_fields, *keys])}")
        if not isinstance(options, Mapping):
            raise GuerdonError(f"{stage}: holds options such as {stage}.NAME=VALUE, got {options!r}")
        for name in options:
            if f"{stage}.{name}" not in keys:
                raise GuerdonError(f"{stage}.{name}: no such option{_nearest(f'{stage}.{name}', keys)}")


ELSEWHERE = {  # what other trainers call it
    "learning_rate": "train.lr",
    "num_train_epochs": "train.epochs",
    "per_device_train_batch_size": "train.batch_size",
    "max_grad_norm": "train.clip",
    "warmup_ratio": "train.warmup",
    "lr_scheduler_type": "train.schedule",
    "center_rewards_coefficient": "train.centering",
    "max_seq_length": "model.max_length",
    "model_name_or_path": "model.base",
}


def _nearest(key: str, known: Sequence[str]) -> str:
    """The same name in another stage, what other trainers' name is called here, or the closest spelling."""
    name = key.rsplit(".", 1)[-1]
    tails = {k.rsplit(".", 1)[-1]: k for k in known}
    close = [tails[name]] if name in tails else [ELSEWHERE[name]] if ELSEWHERE.get(name) in known else []
    close = close or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    close = close or [tails[t] for t in difflib.get_close_matches(name, list(tails), n=1, cutoff=0.5)]
    return f"; the nearest is {close[0]}" if close else f"; known are {', '.join(known[:9])} ..."


def _parse_override(text: str) -> dict[str, Any]:
    import yaml

    key, equals, value = text.partition("=")
    if not equals or "." not in key:
        raise GuerdonError(f"override {text!r}: write STAGE.NAME=VALUE, such as train.lr=1e-5")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise GuerdonError(f"override {text!r}: the value is not valid YAML; remedy: quote it") from None
    stage, _, name = key.partition(".")
    return {stage: {name: parsed}}


def _merge(into: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict) and key in Config.model_fields:
            into[key].update(value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value
