"""Does every reader give a saved reward model the same scores? Examines a directory, ours or another's, and says what to fix."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from guerdon.config import ModelOptions, make
from guerdon.contracts import Finding, GuerdonError, Report, digest
from guerdon.models.chat import ChatTokenizer
from guerdon.models.directory.formats import card_as_json, read_card
from guerdon.models.directory.layout import legacy_rope, stored_dtype
from guerdon.models.directory.loading import load_reward_model, load_text
from guerdon.models.directory.reader_texts import reading_findings
from guerdon.models.engine.checkpoint_files import first_line, read_checkpoint_file
from guerdon.models.engine.loaded_weights import refuse_adapter
from guerdon.models.engine.pretrained import read_config, read_tokenizer
from guerdon.models.engine.stored_head import find_head
from guerdon.models.rendering import apply_template
from guerdon.models.template_source import writes_the_date

PROBE = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def examine(folder: str | Path) -> Report:
    """Run every check on one directory. A finding of severity "error" means that some reader scores it wrongly or not at all."""
    path = Path(folder)
    if not path.is_dir():
        raise GuerdonError(f"{folder}: no such directory. Pass the folder that holds config.json.")
    if not (path / "config.json").is_file():
        refuse_adapter(path)
        raise GuerdonError(
            f"{folder}: holds no config.json, so it is not a model. Pass the folder that a trainer saved."
        )
    saved = _read(path)
    findings = tuple(finding for check in CHECKS for finding in check(saved))
    about = {
        "directory": str(path),
        "architecture": ", ".join(saved.architectures or ["none"]),
        "checks": str(len(CHECKS)),
        "errors": str(sum(finding.severity == "error" for finding in findings)),
        "warnings": str(sum(finding.severity == "warning" for finding in findings)),
    }
    return Report(f"Doctor: {path.name}", about=about, findings=findings)


@dataclass(frozen=True, slots=True)
class SavedFiles:
    """What the checks look at: the directory's JSON files, its tokenizer, and how that renders a probe.

    card: reward.json, empty if there is none or it cannot be read, which card_error explains. tokenizer: None if it cannot be
    loaded, which tokenizer_error explains. template_hashes: of the tokenizer's template as it is read now and as version 0.1
    read it. rendered: the probe conversation as text; None if the template refuses it, which template_error explains.
    last_token: the id that ends it.
    """

    folder: Path
    config: Mapping[str, Any]
    card: Mapping[str, Any]
    tokenizer_config: Mapping[str, Any]
    tokenizer: Any = None
    tokenizer_error: str = ""
    template_hashes: tuple[str, ...] = ()
    rendered: str | None = None
    last_token: int | None = None
    template_error: str = ""
    card_error: str = ""
    architectures: list[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "architectures", self.config.get("architectures") or [])


# ---- Checks ------------------------------------------------------------------------------------------------------


def check_card(saved: SavedFiles) -> Iterator[Finding]:
    """reward.json can be read, by the reader that scoring uses."""
    if saved.card_error:
        yield Finding("error", "reward.json cannot be read", saved.card_error, "restore or delete the file")


def check_architecture(saved: SavedFiles) -> Iterator[Finding]:
    """A class that readers recognize, and exactly one label."""
    import transformers

    names = saved.architectures
    if not any("ForSequenceClassification" in name for name in names):
        yield _not_a_classifier(saved)
    elif not saved.config.get("auto_map") and not any(hasattr(transformers, name) for name in names):
        yield Finding(
            "warning",
            "a class that transformers does not have",
            f"architectures is {names}: Guerdon builds such a class itself, plain transformers and servers have none",
            "serve it with Guerdon, or train from a family that has one",
        )
    labels = saved.config.get("id2label") or {}
    if len(labels) != 1 and not saved.card.get("attributes"):
        yield Finding(
            "error",
            "not exactly one label",
            f"id2label has {len(labels)} entries, and readers count them: num_labels is never stored",
            'write "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}',
        )


def _not_a_classifier(saved: SavedFiles) -> Finding:
    head = None
    with suppress(GuerdonError):  # check_weights and check_self_test say what cannot be read
        head = find_head(saved.folder, read_config(str(saved.folder), ModelOptions()))
    return Finding(
        "error",
        "not a sequence classifier",
        f"architectures is {saved.architectures or 'absent'}; head found: {head[0] if head else 'none'}",
        f"run `guerdon doctor {saved.folder} --repair OUT`, which moves the head"
        if head
        else "train a reward model from it with `guerdon train`",
    )


def check_raw_scores(saved: SavedFiles) -> Iterator[Finding]:
    """problem_type decides whether servers apply a sigmoid to the score."""
    problem = saved.config.get("problem_type")
    if problem != "regression":
        yield Finding(
            "error",
            "servers apply a sigmoid to the score",
            f"problem_type is {problem!r}, and only regression keeps scores raw",
            'write "problem_type": "regression"',
        )


def check_pad_token(saved: SavedFiles) -> Iterator[Finding]:
    """Readers take the last token that is not padding, so the pad token must never end a text."""
    tokenizer = saved.tokenizer
    if tokenizer is None:
        return
    pad = saved.config.get("pad_token_id")
    if pad is None:
        yield Finding(
            "error",
            "no pad token",
            "pad_token_id is absent, so a batch of several texts cannot be read",
            "choose a token that never ends a text",
        )
        return
    ends = saved.config.get("eos_token_id")
    ends = set(ends) if isinstance(ends, list) else {ends}
    if pad in ends | {tokenizer.eos_token_id} or pad == saved.last_token:
        yield Finding(
            "error",
            "the pad token ends texts",
            f"pad_token_id {pad} is also an end token, so readers skip the end of a text",
            "set pad_token to an unused special token in the tokenizer and in config.json",
        )
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != pad:
        yield Finding(
            "error",
            "two different pad tokens",
            f"config.json has {pad}, the tokenizer {tokenizer.pad_token_id}",
            "write the same token in both",
        )


def check_bos(saved: SavedFiles) -> Iterator[Finding]:
    """A template that writes BOS and a tokenizer that adds one give two."""
    tokenizer, text = saved.tokenizer, saved.rendered
    if tokenizer is None or text is None or tokenizer.bos_token_id is None:
        return
    from_template = tokenizer(text, add_special_tokens=False)["input_ids"].count(tokenizer.bos_token_id)
    in_all = tokenizer(text)["input_ids"].count(tokenizer.bos_token_id)
    if in_all > from_template >= 1:
        yield Finding(
            "warning",
            "some readers see BOS twice",
            f"the template writes BOS and the tokenizer adds another ({in_all} in all)",
            "tokenize rendered text with add_special_tokens=False, as Guerdon does",
        )


def check_template(saved: SavedFiles) -> Iterator[Finding]:
    """Without a stored chat template every reader renders conversations in its own way."""
    if saved.tokenizer is None:
        yield Finding("error", "no tokenizer", saved.tokenizer_error, "copy the base model's tokenizer files there")
    elif not saved.tokenizer.chat_template:
        yield Finding(
            "error",
            "no chat template",
            "the tokenizer has none, so each reader renders conversations differently",
            "save it in chat_template.jinja",
        )
    elif saved.rendered is None:
        yield Finding("error", "the chat template fails", saved.template_error, "fix chat_template.jinja")
    elif writes_the_date(saved.tokenizer):
        yield Finding(
            "warning",
            "the chat template writes today's date",
            "other readers score the same text differently every day; Guerdon reads it as of one day",
            f"run `guerdon doctor {saved.folder} --repair OUT`, which stores that day",
        )
    stored = saved.card.get("template_hash")
    if stored and saved.template_hashes and stored not in saved.template_hashes:
        yield Finding(
            "error",
            "the chat template has changed",
            f"reward.json has hash {stored}, the tokenizer's template {saved.template_hashes[0]}",
            "restore chat_template.jinja, or train again",
        )


def check_readers(saved: SavedFiles) -> Iterator[Finding]:
    """Every reader gives the model the same text, and the template shows all of it."""
    if saved.rendered is None or saved.card_error:
        return
    try:
        text = load_text(ModelOptions(base=str(saved.folder)))
    except GuerdonError:  # check_self_test says why it cannot be loaded
        return
    if not text.encoder:  # servers tokenize pairs for encoders in ways of their own
        yield from reading_findings(text, saved.folder)


def check_old_readers(saved: SavedFiles) -> Iterator[Finding]:
    """transformers 4 needs its own names for the rope base, the dtype and the tokenizer class."""
    config = saved.config
    for key, value in legacy_rope(config.get("rope_parameters")).items():
        if config.get(key) != value:
            yield Finding(
                "error",
                "transformers 4 computes other scores",
                f"{key} is {config.get(key)!r}, so 4.x takes its default",
                f'write "{key}": {json.dumps(value)}',
            )
    if "dtype" in config and "torch_dtype" not in config:
        yield Finding(
            "warning",
            "transformers 4 does not know the dtype",
            "torch_dtype is absent",
            f'write "torch_dtype": "{config["dtype"]}"',
        )
    if isinstance(saved.tokenizer_config.get("extra_special_tokens"), list):
        yield Finding(
            "error",
            "transformers 4 cannot read the tokenizer",
            "extra_special_tokens is a list, and 4.x fails unless it is a mapping",
            "rename it to additional_special_tokens, which both read",
        )
    if saved.tokenizer_config.get("tokenizer_class") == "TokenizersBackend":
        yield Finding(
            "error",
            "transformers 4 refuses the tokenizer",
            "tokenizer_class is TokenizersBackend",
            'write "tokenizer_class": "PreTrainedTokenizerFast"',
        )


def check_weights(saved: SavedFiles) -> Iterator[Finding]:
    """Safetensors, a head without bias, no adapters, no module buffers for calibration, nothing that is not finite."""
    from safetensors import SafetensorError

    files = sorted(saved.folder.glob("*.safetensors"))
    if not files:
        yield Finding("error", "no safetensors", "weights are pickled or absent", "save with safe_serialization")
    if (saved.folder / "adapter_config.json").is_file():
        yield Finding(
            "warning",
            "the adapter is not merged",
            "adapter_config.json is there, and most servers read merged weights only",
            "merge it into the base",
        )
    for file in files:
        try:
            yield from _check_tensors(file)
        except SafetensorError as error:
            yield Finding("error", "unreadable weights", f"{file.name}: {error}", "copy the file again")


def _check_tensors(file: Path) -> Iterator[Finding]:
    import torch
    from safetensors import safe_open

    with safe_open(str(file), framework="pt") as tensors:
        for name in tensors.keys():
            if name in ("mean", "std"):
                yield Finding(
                    "error",
                    "calibration in the weights",
                    f"buffer {name!r}: transformers 5 re-creates such buffers uninitialized",
                    "keep it in reward.json",
                )
            value = tensors.get_tensor(name)
            if value.is_floating_point() and not torch.isfinite(value).all():
                yield Finding(
                    "error", "weights are not finite", f"{name} holds NaN or infinity", "take an earlier checkpoint"
                )
            if name == "score.bias" and value.abs().max() > 0:
                yield Finding(
                    "warning",
                    "a bias that readers ignore",
                    f"{name} is not zero, and plain transformers drops it",
                    "subtract it through reward.json's reference_mean",
                )


def check_self_test(saved: SavedFiles) -> Iterator[Finding]:
    """The texts whose scores were stored at saving still get the same scores."""
    rows = saved.card.get("self_test") or []
    if not rows or saved.tokenizer is None or saved.template_error:
        return
    try:
        dtype = stored_dtype(str(saved.folder), ModelOptions())
        worst = _self_test_error(saved.folder, rows, {"dtype": dtype})
    except GuerdonError as error:
        yield unscorable(error)
        return
    if worst <= (1e-3 if dtype == "float32" else 5e-2):  # half precision rounds differently on every machine
        return
    rounded = _self_test_error(saved.folder, rows, {"dtype": dtype, "autocast": "bfloat16"})
    if rounded < worst / 2:  # saved by a version that scored the self-test as it had trained
        yield Finding(
            "warning",
            "the stored scores are of bfloat16 products",
            f"they differ by up to {worst:.3g} nats in float32, by {rounded:.3g} with model.autocast=bfloat16",
            "save the model again, or score with model.autocast=bfloat16",
        )
        return
    yield Finding(
        "error",
        "scores have changed",
        f"the stored scores of the self-test differ by up to {worst:.3g} nats",
        "restore the files, or save the model again",
    )


def unscorable(error: GuerdonError) -> Finding:
    """That the model's own reader fails."""
    return Finding("error", "it cannot score texts", str(error), "fix what the evidence names")


def _self_test_error(folder: Path, rows: Sequence[Sequence[Any]], options: Mapping[str, Any]) -> float:
    """The largest distance between a stored raw score and today's."""
    model = load_reward_model(folder, make(ModelOptions, options))
    values = model.score([row[0] for row in rows], [row[1] for row in rows]).value
    return max(abs(float(value) - float(row[2])) for value, row in zip(values, rows, strict=True))


CHECKS: tuple[Callable[[SavedFiles], Iterator[Finding]], ...] = (
    check_card,
    check_architecture,
    check_raw_scores,
    check_pad_token,
    check_bos,
    check_template,
    check_readers,
    check_old_readers,
    check_weights,
    check_self_test,
)


# ---- Reading -----------------------------------------------------------------------------------------------------


def _read(folder: Path) -> SavedFiles:
    config, card, card_error = read_checkpoint_file(folder / "config.json"), {}, ""
    try:
        stored = read_card(folder)
        card = card_as_json(stored) if stored else {}
    except GuerdonError as error:
        card_error = str(error)
    try:
        tokenizer = read_tokenizer(str(folder), ModelOptions())
    except GuerdonError as error:
        return SavedFiles(folder, config, card, {}, tokenizer_error=str(error), card_error=card_error)
    file = folder / "tokenizer_config.json"
    saved = SavedFiles(
        folder, config, card, read_checkpoint_file(file) if file.is_file() else {}, tokenizer, card_error=card_error
    )
    if not tokenizer.chat_template:
        return saved
    system, source = card.get("system"), tokenizer.chat_template
    hashes = (ChatTokenizer(tokenizer, system=system).template_hash, digest([source, system]))
    saved = replace(saved, template_hashes=hashes)
    try:
        text = apply_template(tokenizer, PROBE)
        last_token = tokenizer(text, add_special_tokens=False)["input_ids"][-1]
    except Exception as error:  # a template is somebody's program: any failure of it is a finding
        refusal = f"it refuses one user and one assistant turn ({first_line(error)})"
        return replace(saved, template_error=str(error) if isinstance(error, GuerdonError) else refusal)
    return replace(saved, rendered=text, last_token=last_token)
