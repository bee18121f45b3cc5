"""Options of a policy and what is done with it: policy, best_of_n, optimize."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from guerdon.config.base import Beta, Device, Options, Seed, TemplateName, refuse_idle_adapters
from guerdon.errors import field_error

READ_WITH_A_SERVER = ("base", "system", "server")
READ_BY_A_VALUE_MODEL = (
    "value", "value_lr", "value_clip", "value_coef", "value_warmup", "gamma", "lam", "whiten_rewards", "dense",
)  # fmt: skip


def _split_urls(given: Any) -> Any:
    """Addresses that are one text with commas, as a list."""
    return [part.strip() for part in given.split(",") if part.strip()] if isinstance(given, str) else given


class PolicyOptions(Options):
    """The language model that is optimized or sampled from."""

    base: str = Field(
        "starter", description="Hub name or directory of a causal language model; 'starter' is the offline kit's."
    )
    revision: str | None = Field(None, description="Revision of a hub model.")
    trust_remote_code: bool = Field(
        False, description="Run code that comes with the model. Only for authors you trust."
    )
    dtype: Literal["float32", "bfloat16", "auto"] = Field(
        "float32", description="Type of the weights; auto is bfloat16 on hardware that is fast at it."
    )
    device: Device = Field("auto", description="auto, cpu, mps, cuda or cuda:N.")
    system: str | None = Field(None, description="System message added to prompts that have none.")
    template: TemplateName = Field(
        "model", description="Chat template: the tokenizer's own, or 'plain' (Role: text) for models that have none."
    )
    max_prompt: int = Field(
        1024, ge=1, description="Maximum tokens of a rendered prompt; longer prompts are left out, counted and named."
    )
    stop: list[str] = Field(
        default_factory=list,
        description="Tokens that end a reply besides the model's own end tokens and its template's end of turn.",
    )
    lora_rank: int = Field(
        16,
        ge=0,
        description="Rank of the LoRA adapters to train; 0 trains every weight, with a frozen copy as reference.",
    )
    lora_alpha: int = Field(32, ge=1, description="Scale of the adapters; the update is multiplied by alpha / rank.")
    lora_targets: list[str] = Field(
        default_factory=list, description="Names of the linear layers that get adapters; empty means all of them."
    )
    server: str | None = Field(
        None, description="URL of an OpenAI-compatible server (vLLM, SGLang) that samples instead; base is its model."
    )
    server_timeout: float = Field(600.0, gt=0, description="Seconds to wait for one answer of the server.")
    server_retries: int = Field(8, ge=0, description="Retries where the server fails or is busy.")
    server_workers: int = Field(16, ge=1, description="Concurrent requests to the server.")
    server_key_from_env: bool = Field(
        False,
        description="Send OPENAI_API_KEY from the environment to the server as its token; it is stored nowhere.",
    )
    server_log_probs: bool = Field(
        False, description="Ask the server for log-probabilities too: exact KL of best-of-N, at temperature 1 only."
    )

    def refuse_conflicts(self) -> None:
        """Raise GuerdonError for options that a server does not use, a server's options without one, and adapters of no rank."""
        refuse_idle_adapters("policy", self.lora_rank, self.lora_targets)
        for name in _changed(self):
            value = getattr(self, name)
            if name.startswith("server_") and not self.server:
                raise field_error(
                    f"policy.{name}",
                    "left out without policy.server",
                    value,
                    "Give policy.server=URL, or leave it out.",
                )
            if self.server and name not in READ_WITH_A_SERVER and not name.startswith("server_"):
                raise field_error(f"policy.{name}", "left out with policy.server", value, "Set it on the server.")


class BestOfNOptions(Options):
    """Draw N replies to each prompt and keep the one with the highest reward."""

    n: int = Field(16, ge=1, description="Replies drawn per prompt.")
    max_tokens: int = Field(64, ge=1, description="Maximum tokens in a reply.")
    temperature: float = Field(
        1.0, gt=0, description="Sampling temperature; nothing else shapes the distribution (no top-k, no top-p)."
    )
    prompts_at_once: int = Field(
        8, ge=1, description="Prompts sampled and scored together; changes speed and memory, never a reply."
    )
    most_n: int | None = Field(  # may exceed n: a curve is also drawn of a pool that has more
        None, ge=1, description="Largest n of the curve; N/4 unless given, because close to N it rests on single draws."
    )
    draws: int = Field(
        2000, ge=100, description="Bootstrap draws, by prompt, for intervals of anything but means and shares."
    )
    seed: Seed = Field(
        0, description="Seeds the draws; those of a prompt depend on the seed and the prompt's position only."
    )


class OptimizeOptions(Options):
    """Reinforcement learning of a policy against a reward: PPO, RLOO or GRPO."""

    baseline: Literal["value", "leave_one_out", "group"] = Field(
        "value",
        description="What a reply is compared with: a value model (PPO), its prompt's other samples (RLOO), or their mean and "
        "spread (GRPO).",
    )
    updates: int = Field(100, ge=1, description="Batches of rollouts, each learned from once and discarded.")
    prompts: int = Field(32, ge=1, le=8192, description="Prompts per batch.")
    samples: int = Field(1, ge=1, le=8192, description="Replies per prompt; leave_one_out and group need at least 2.")
    max_tokens: int = Field(64, ge=1, description="Maximum tokens in a reply.")
    temperature: float = Field(
        1.0, gt=0, description="Divides the logits of rollouts, reference and update in the same way."
    )
    epochs: int = Field(4, ge=1, description="Passes over a batch of rollouts.")
    minibatches: int = Field(1, ge=1, description="Optimizer steps per pass; shuffled for each pass.")
    micro_tokens: int = Field(
        4096, ge=16, description="Maximum tokens per forward pass; changes memory, and results by rounding only."
    )
    lr: float = Field(1e-4, gt=0, description="Peak learning rate; falls linearly to 0.")
    value_lr: float | None = Field(
        None, gt=0, description="Peak learning rate of the value head; the same as lr unless given."
    )
    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="AdamW's betas.")
    eps: float = Field(1e-5, gt=0, description="AdamW's epsilon.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decoupled weight decay; not on heads, norms or biases.")
    grad_clip: float = Field(1.0, ge=0, description="Maximum gradient norm; 0 does not clip.")
    clip: float = Field(0.2, gt=0, description="How far the ratio to the old policy may move a token's loss.")
    value_clip: float = Field(0.2, gt=0, description="How far a value may move from the old one within a batch.")
    value_coef: float = Field(0.1, ge=0, description="Weight of the value loss.")
    value: Literal["head", "reward"] = Field(
        "head",
        description="The value model: a head on the policy's own backbone, or a separate model that starts as a copy of the "
        "reward model.",
    )
    value_warmup: int = Field(
        0, ge=0, description="Updates in which only the value model learns, before the policy moves."
    )
    gamma: float = Field(1.0, gt=0, le=1, description="Discount per token.")
    lam: float = Field(0.95, ge=0, le=1, description="GAE's lambda.")
    kl_coef: float = Field(
        0.05, ge=0, description="Reward charged per nat of KL to the reference, in nats, token by token."
    )
    kl_target: float | None = Field(
        None,
        gt=0,
        description="KL to hold, nats per reply: kl_coef then adapts (Ziegler et al. 2019); fixed unless given.",
    )
    kl_horizon: float = Field(10000, gt=0, description="Replies over which an adaptive kl_coef reacts.")
    reward_scale: Literal["reference", "running", "none"] = Field(
        "none",
        description="Divide scores by the spread stored with the model (after subtracting its mean), or by a running spread "
        "(the mean stays).",
    )
    reward_clip: float | None = Field(None, gt=0, description="Maximum absolute score, after scaling.")
    unfinished: float = Field(
        1.0, ge=0, description="Subtracted from the score of a reply that was cut at max_tokens, after scaling."
    )
    whiten_rewards: bool = Field(False, description="Divide a batch's token rewards by their spread; the mean stays.")
    dense: bool = Field(
        False,
        description="Pay each token what it adds to the reward model's value of the reply so far; a reply's return stays, and "
        "so does the optimum.",
    )
    gradient_checkpointing: bool = Field(False, description="Recompute activations: less memory, more time.")
    max_kl: float | None = Field(
        None, gt=0, description="Stop when a batch's mean KL to the reference exceeds this, nats per reply."
    )
    max_kl_step: float | None = Field(
        None,
        gt=0,
        description="End a batch's epochs when the policy has moved this far from the one that sampled it, nats per token.",
    )
    min_entropy: float | None = Field(None, gt=0, description="Stop when mean entropy falls below, nats per token.")
    max_length: float | None = Field(None, gt=0, description="Stop when the mean reply is longer, tokens.")
    min_length: float | None = Field(None, gt=0, description="Stop when the mean reply is shorter, tokens.")
    check_every: int = Field(
        10, ge=0, description="Updates between checks on held-out prompts (proxy, gold, KL); 0 never checks."
    )
    check_prompts: int = Field(64, ge=1, description="Held-out prompts per check.")
    stop_when: Literal["never", "over_optimized"] = Field(
        "never", description="Stop when gold has fallen from its best by more than its uncertainty."
    )
    keep: Literal["last", "best_gold"] = Field(
        "last", description="Which policy to save: the last, or the one with the best gold."
    )
    save_every: int = Field(10, ge=0, description="Updates between checkpoints; 0 saves the last only.")
    save_minutes: float = Field(
        10.0, ge=0, description="Minutes after which a checkpoint is written in between; 0 counts updates only."
    )
    seed: Seed = Field(0, description="Seeds prompts, rollouts and the order of minibatches.")
    rollouts: Annotated[list[str], BeforeValidator(_split_urls)] = Field(
        default_factory=list,
        description="URLs of vLLM servers that sample the replies instead, with commas between them; they must take LoRA adapters "
        "while they run.",
    )
    rollout_folder: str | None = Field(
        None, description="Folder for the adapters that these servers read; in the run's folder unless given."
    )
    rollout_workers: int = Field(16, ge=1, description="Concurrent requests to each of these servers.")
    rollout_timeout: float = Field(
        600.0, gt=0, description="Seconds to wait for one answer, and for a server to come back once all are gone."
    )
    rollout_key_from_env: bool = Field(
        False, description="Send OPENAI_API_KEY from the environment to these servers; it is stored nowhere."
    )

    def refuse_conflicts(self) -> None:
        """Raise GuerdonError for options that the baseline does not use, and for numbers that exclude each other."""
        self._refuse_conflicts_with_the_baseline()
        self._refuse_conflicts_of_numbers()
        for name in _changed(self):
            if name.startswith("rollout_") and not self.rollouts:
                claim = "left out without optimize.rollouts"
                raise field_error(f"optimize.{name}", claim, getattr(self, name), "Give optimize.rollouts=URL.")

    def _refuse_conflicts_with_the_baseline(self) -> None:
        if self.baseline == "value":
            if self.dense and self.value == "reward":
                claim = "head with optimize.dense=true, which pays what a value model that starts as the reward would predict"
                raise field_error("optimize.value", claim, self.value, "Leave one of the two out.")
            return
        baseline = f"optimize.baseline={self.baseline}"
        if self.samples < 2:
            claim = f"2 or more with {baseline}, which compares replies to one prompt"
            raise field_error("optimize.samples", claim, self.samples, "Set optimize.samples=4.")
        for name in _changed(self):
            if name in READ_BY_A_VALUE_MODEL:
                claim = f"left out with {baseline}, which has no value model"
                raise field_error(f"optimize.{name}", claim, getattr(self, name), "Leave it out.")

    def _refuse_conflicts_of_numbers(self) -> None:
        if self.value_warmup >= self.updates:
            claim = f"less than optimize.updates={self.updates}, or the policy never moves"
            raise field_error("optimize.value_warmup", claim, self.value_warmup, "Set a smaller one.")
        if self.min_length is not None and self.max_length is not None and self.min_length >= self.max_length:
            claim = f"less than optimize.max_length={self.max_length:g}, or every length stops the run"
            raise field_error("optimize.min_length", claim, self.min_length, "Set a smaller one.")
        if self.value_warmup and self.weight_decay:
            claim = "0 with optimize.value_warmup, or it shrinks a policy that should not move yet"
            raise field_error("optimize.weight_decay", claim, self.weight_decay, "Set one of the two to 0.")
        if self.kl_target is not None and not self.kl_coef:
            claim = "greater than 0 with optimize.kl_target, because 0 cannot adapt"
            raise field_error("optimize.kl_coef", claim, self.kl_coef, "Start with optimize.kl_coef=0.05.")
        replies = self.prompts * self.samples
        if self.minibatches > replies:
            claim = f"at most {replies}, the replies in a batch"
            raise field_error("optimize.minibatches", claim, self.minibatches, "Set a smaller one.")


def _changed(options: Options) -> list[str]:
    """Names of the options that are not at their default, in alphabetical order."""
    fields = type(options).model_fields
    default = {name: field.get_default(call_default_factory=True, validated_data={}) for name, field in fields.items()}
    return sorted(name for name in fields if getattr(options, name) != default[name])
