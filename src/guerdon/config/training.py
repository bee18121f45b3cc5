"""Options of a reward model and its training: model, train, calibrate, uncertainty."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import Any, Literal

from pydantic import Field, field_validator

from guerdon.config.base import Beta, Device, Options, Seed, TemplateName, Truncation, refuse_idle_adapters
from guerdon.errors import GuerdonError, field_error

Tracker = Literal["trackio", "tensorboard", "wandb", "mlflow", "comet_ml", "aim", "clearml", "dvclive", "swanlab"]
LOSSES_OF_RATINGS = ("attributes", "cross_entropy")  # one head per rated attribute
LOSSES_THAT_READ = {"label_smoothing": ("bradley_terry", "all_pairs"), "margin_scale": ("bradley_terry",)}


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
        description="Type of the backbone's weights; head and scores stay float32. auto is bfloat16 on hardware that is fast at it.",
    )
    autocast: Literal["no", "bfloat16", "auto"] = Field(
        "no",
        description="Compute matrix products in bfloat16 over float32 weights; auto does so on hardware that is fast at it.",
    )
    attention: Literal["sdpa", "eager"] = Field(
        "sdpa", description="transformers' attention; eager is faster for short texts on a CPU, sdpa otherwise."
    )
    device: Device = Field("auto", description="auto, cpu, mps, cuda or cuda:N.")
    max_length: int = Field(1024, ge=8, description="Maximum tokens of prompt and response together.")
    truncation: Truncation = Field(
        "refuse",
        description="What happens to a longer text: an error, its comparison is dropped and counted, or the prompt loses its beginning.",
    )
    template: TemplateName = Field(
        "model", description="Chat template: the tokenizer's own, or 'plain' (Role: text) for models that have none."
    )
    system: str | None = Field(
        None, description="System message added to prompts that have none; stored with the model."
    )
    lora_rank: int = Field(0, ge=0, description="Rank of LoRA adapters; 0 trains every weight. The head always trains.")
    lora_alpha: int = Field(32, ge=1, description="Scale of the adapters; the update is multiplied by alpha / rank.")
    lora_targets: list[str] = Field(
        default_factory=list,
        description="Names of the linear layers that get adapters; empty means all of the backbone's.",
    )
    attributes: list[str] = Field(
        default_factory=list,
        description="Names of rated attributes, one head each, for the losses attributes and cross_entropy; empty is one head.",
    )
    head_scale: float = Field(
        1.0,
        ge=0,
        description="Spread of a new head's weights, in 1/sqrt(hidden size + 1); 0.02 learns better from a few hundred comparisons.",
    )
    heads: int = Field(
        1,
        ge=1,
        le=256,
        description="Heads on one backbone, each initialized independently: an ensemble at the cost of one pass, for every loss "
        "but 'attributes'.",
    )

    @field_validator("autocast", mode="before")
    @classmethod
    def _no_of_yaml(cls, value: Any) -> Any:
        """YAML reads an unquoted `no` as false."""
        return "no" if value is False else value

    def refuse_conflicts(self) -> None:
        """Raise GuerdonError for several heads with rated attributes, which have one head each, and for adapters of no rank."""
        refuse_idle_adapters("model", self.lora_rank, self.lora_targets)
        if self.heads > 1 and self.attributes:
            claim = "1 with model.attributes, which have one head each"
            raise field_error("model.heads", claim, self.heads, "Set model.heads=1.")


OF_NEW_MODELS = (
    "base",
    "lora_rank",
    "lora_alpha",
    "lora_targets",
    "heads",
    "head_scale",
)  # what a saved model has its own of


def refuse_options_of_new_models(names: Iterable[str]) -> None:
    """Raise GuerdonError if options of ModelOptions were given that loading a saved model would ignore."""
    for name in names:
        if name in OF_NEW_MODELS:
            raise GuerdonError(f"model.{name} must be left out for a saved model, which has its own. Leave it out.")


class TrainOptions(Options):
    """One training run over comparisons."""

    loss: Literal["bradley_terry", "rao_kupper", "plackett_luce", "all_pairs", "attributes", "cross_entropy"] = Field(
        "bradley_terry", description="Likelihood of the preferences; docs/train.md says which data each one takes."
    )
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="Probability that a preference is reversed.")
    margin_scale: float = Field(
        0.0, ge=0, description="Nats of margin required per unit of preference strength; 0 requires none."
    )
    centering: float = Field(
        0.01,
        ge=0,
        description="Weight of the penalty that keeps rewards centered on 0; never changes a margin. Losses of ratings have none.",
    )
    bootstrap: bool = Field(
        False,
        description="Weight each comparison by a Poisson draw, one per head, so that the members of an ensemble see different data.",
    )
    lr: float = Field(2e-5, gt=0, description="Peak learning rate.")
    head_lr: float | None = Field(
        None, gt=0, description="Peak learning rate of the head; the same as lr unless given."
    )
    epochs: float = Field(1.0, gt=0, description="Passes over the data.")
    max_steps: int | None = Field(None, ge=1, description="Stop after this many optimizer steps, whatever epochs says.")
    batch_size: int = Field(16, ge=1, description="Comparisons per optimizer step, over all processes.")
    micro_tokens: int = Field(
        2048,
        ge=16,
        description="Maximum computed tokens per forward pass; changes memory, and a step's gradient by rounding only. One comparison "
        "may take twice as many, and with train.shard any number.",
    )
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "cosine", description="How the learning rate falls after warm-up."
    )
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of steps over which the learning rate rises from 0.")
    weight_decay: float = Field(
        0.0, ge=0, description="AdamW's decoupled weight decay; not on the head, norms or biases."
    )
    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="AdamW's betas.")
    eps: float = Field(1e-8, gt=0, description="AdamW's epsilon.")
    clip: float = Field(1.0, ge=0, description="Maximum gradient norm; 0 does not clip.")
    compile: bool = Field(
        False, description="Fuse each layer's small operations with torch.compile: needs a C++ compiler and a minute."
    )
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass: less memory, more time."
    )
    shard: bool = Field(
        False,
        description="Shard weights, gradients and moments over the processes of a launcher (FSDP2); never changes the result.",
    )
    eval_every: int = Field(
        0, ge=0, description="Steps between held-out evaluations; 0 evaluates at the end of each epoch."
    )
    patience: int = Field(
        0, ge=0, description="Stop after this many evaluations without a lower held-out loss; 0 never stops early."
    )
    save_every: int = Field(50, ge=0, description="Steps between checkpoints; 0 saves none.")
    save_minutes: float = Field(
        10.0, ge=0, description="Minutes after which a checkpoint is written in between; 0 counts steps only."
    )
    seed: Seed = Field(0, description="Seeds the head and the order of the data, nothing else (dropout is 0).")
    report_to: list[Tracker] = Field(
        default_factory=list, description="Trackers besides metrics.jsonl, each of which must be installed."
    )

    def refuse_conflicts(self) -> None:
        """Raise GuerdonError for options that exclude each other, and for those that the loss does not use."""
        for tracker in self.report_to:
            if find_spec(tracker) is None:
                advice = f"Install it (pip install {tracker.replace('_', '-')}), or leave it out."
                raise field_error("train.report_to", "a list of installed trackers", tracker, advice)
        if self.compile and self.shard:
            raise field_error("train.compile", "false with train.shard=true", True, "Leave one of them out.")
        if self.loss in LOSSES_OF_RATINGS and self.centering not in (0, type(self).model_fields["centering"].default):
            claim = f"left out with train.loss={self.loss}, whose ratings say where 0 is"
            raise field_error("train.centering", claim, self.centering, "Leave it out, or use a loss of preferences.")
        for name, losses in LOSSES_THAT_READ.items():
            if (value := getattr(self, name)) and self.loss not in losses:
                claim = f"0 with train.loss={self.loss}, which does not use it"
                advice = f"Set train.{name}=0, or use train.loss={losses[0]}."
                raise field_error(f"train.{name}", claim, value, advice)


def refuse_untrainable_heads(loss: str, heads: int, attributes: Sequence[str]) -> None:
    """Raise GuerdonError for a model of this many heads and these rated attributes that the loss does not train."""
    if heads > 1 and loss in LOSSES_OF_RATINGS:
        claim = f"1 with train.loss={loss}, which has one head per attribute"
        raise field_error("model.heads", claim, heads, "Set model.heads=1, or use another loss.")
    if attributes and loss not in LOSSES_OF_RATINGS:
        claim = f"empty with train.loss={loss}, which trains one head"
        raise field_error("model.attributes", claim, list(attributes), "Use train.loss=attributes or cross_entropy.")


class CalibrateOptions(Options):
    """Fit a model's odds to how often it is right."""

    method: Literal["temperature", "isotonic"] = Field(
        "temperature",
        description="One scale, which gives a reward model; or, with 1,000 pairs or more, a monotone curve, which gives a judge.",
    )
    temperature: bool = Field(True, description="Fit one temperature by held-out likelihood.")
    bins: int = Field(
        15,
        ge=2,
        description="Most equal-mass bins of the calibration error; fewer pairs fill fewer, the cube root of their number.",
    )
    seed: Seed = Field(0, description="Seeds the simulated null and the bootstrap.")


class UncertaintyOptions(Options):
    """Estimate how uncertain a model is, and where its training data lie."""

    most: int = Field(
        20_000,
        ge=100,
        description="Maximum training comparisons read, drawn by hash of the group and weighted to stand for all of them.",
    )
    prior_precision: float | None = Field(
        None, gt=0, description="Precision of the head's prior; the one with the largest evidence unless given."
    )
