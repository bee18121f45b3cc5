"""Is a saved reward model read the same by everyone? Looks at a directory, ours or another's, and says what to mend."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from guerdon.config import ModelOptions, make
from guerdon.contracts import Finding, GuerdonError, Report
from guerdon.models.directory.layout import legacy_rope, stored_dtype
from guerdon.models.engine.pretrained import read_tokenizer

Facts = dict[str, Any]


def examine(folder: str | Path) -> Report:
    """Every check on one directory; findings of severity "error" mean that some reader scores it wrongly or not at all."""
    place = Path(folder)
    if not place.is_dir():
        raise GuerdonError(f"{folder}: no such directory. Pass the folder that holds config.json.")
    if not (place / "config.json").is_file():
        raise GuerdonError(
            f"{folder}: holds no config.json, so it is not a model. Pass the folder that a trainer saved."
        )
    facts = _read(place)
    findings = tuple(found for check in CHECKS for found in check(place, facts))
    about = {
        "directory": str(place),
        "architecture": ", ".join(facts["config"].get("architectures") or ["none"]),
        "checks": str(len(CHECKS)),
        "errors": str(sum(f.severity == "error" for f in findings)),
        "warnings": str(sum(f.severity == "warning" for f in findings)),
    }
    return Report(f"Doctor: {place.name}", about=about, findings=findings)


def architecture(place: Path, facts: Facts) -> Iterator[Finding]:
    """A class that readers recognize, and exactly one label."""
    import transformers

    config, names = facts["config"], facts["config"].get("architectures") or []
    if not any("ForSequenceClassification" in name for name in names):
        from guerdon.models.directory.foreign import find_head

        head = find_head(place) if any(place.glob("*.safetensors")) else None
        remedy = (
            f"`guerdon doctor {place} --repair OUT` moves it"
            if head
            else "train a reward model from it with `guerdon train`"
        )
        yield Finding(
            "error",
            "not a sequence classifier",
            f"architectures is {names or 'absent'}; head found: {head[0] if head else 'none'}",
            remedy,
        )
    elif not config.get("auto_map") and not any(hasattr(transformers, name) for name in names):
        yield Finding(
            "warning",
            "a class that transformers does not have",
            f"architectures is {names}: Guerdon makes such a class up, plain transformers and servers have none",
            "serve it with Guerdon, or train from a family that has one",
        )
    labels = config.get("id2label") or {}
    if len(labels) != 1 and not facts["card"].get("attributes"):
        yield Finding("error", "not one label", f"id2label has {len(labels)} entries; num_labels is never stored, it is their count",
                      'write "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}')  # fmt: skip


def raw_scores(place: Path, facts: Facts) -> Iterator[Finding]:
    """problem_type decides whether servers put a sigmoid on the score."""
    if facts["config"].get("problem_type") != "regression":
        yield Finding("error", "the score is squashed", f"problem_type is {facts['config'].get('problem_type')!r}: readers add a sigmoid",
                      'write "problem_type": "regression"')  # fmt: skip


def pad_token(place: Path, facts: Facts) -> Iterator[Finding]:
    """Readers take the last token that is not padding, so padding must never end a text."""
    config, tokenizer = facts["config"], facts["tokenizer"]
    if tokenizer is None:
        return
    pad = config.get("pad_token_id")
    if pad is None:
        yield Finding(
            "error",
            "no pad token",
            "pad_token_id is absent: batches of more than one text cannot be read",
            "choose a token that never ends a text",
        )
        return
    ends = config.get("eos_token_id")
    ends = set(ends) if isinstance(ends, list) else {ends}
    if pad in ends | {tokenizer.eos_token_id} or pad == facts["last_token"]:
        yield Finding("error", "padding ends texts", f"pad_token_id {pad} is also an end token: readers skip a text's end",
                      "set pad_token to an unused special token in the tokenizer and in config.json")  # fmt: skip
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != pad:
        yield Finding(
            "error",
            "two pad tokens",
            f"config.json says {pad}, the tokenizer {tokenizer.pad_token_id}",
            "make them agree",
        )


def bos(place: Path, facts: Facts) -> Iterator[Finding]:
    """A template that writes BOS and a tokenizer that adds it give two."""
    tokenizer, text = facts["tokenizer"], facts["rendered"]
    if tokenizer is None or text is None or tokenizer.bos_token_id is None:
        return
    bare = tokenizer(text, add_special_tokens=False)["input_ids"].count(tokenizer.bos_token_id)
    added = tokenizer(text)["input_ids"].count(tokenizer.bos_token_id)
    if added > bare >= 1:
        yield Finding("warning", "BOS twice for some readers", f"the template writes BOS and the tokenizer adds another ({added} in all)",
                      "tokenize rendered text with add_special_tokens=False, as Guerdon does")  # fmt: skip


def template(place: Path, facts: Facts) -> Iterator[Finding]:
    """Without a stored chat template everybody renders conversations in their own way."""
    if facts["tokenizer"] is None:
        yield Finding("error", "no tokenizer", facts["tokenizer_error"], "copy the base model's tokenizer files there")
    elif not facts["tokenizer"].chat_template:
        yield Finding(
            "error",
            "no chat template",
            "the tokenizer has none, so each reader renders conversations differently",
            "save it in chat_template.jinja",
        )
    elif facts["rendered"] is None:
        yield Finding(
            "error", "the chat template fails", "it refuses one user and one assistant turn", "mend chat_template.jinja"
        )
    stored = facts["card"].get("template_hash")
    if stored and facts["template_hash"] and stored != facts["template_hash"]:
        yield Finding("error", "the template changed", f"reward.json says {stored}, the tokenizer has {facts['template_hash']}",
                      "restore chat_template.jinja, or train again")  # fmt: skip


def old_readers(place: Path, facts: Facts) -> Iterator[Finding]:
    """transformers 4 needs its own names for the rope base, the dtype and the tokenizer class."""
    config = facts["config"]
    for key, value in legacy_rope(config.get("rope_parameters")).items():
        if config.get(key) != value:
            yield Finding("error", "transformers 4 will score wrongly", f"{key} is {config.get(key)!r}; 4.x then takes its default",
                          f'write "{key}": {json.dumps(value)}')  # fmt: skip
    if "dtype" in config and "torch_dtype" not in config:
        yield Finding(
            "warning",
            "dtype unknown to transformers 4",
            "torch_dtype is absent",
            f'write "torch_dtype": "{config["dtype"]}"',
        )
    if isinstance(facts["tokenizer_config"].get("extra_special_tokens"), list):
        yield Finding(
            "error",
            "transformers 4 cannot read the tokenizer",
            "extra_special_tokens is a list, 4.x expects a mapping and stops",
            "rename it to additional_special_tokens, which both read",
        )
    name = facts["tokenizer_config"].get("tokenizer_class")
    if name == "TokenizersBackend":
        yield Finding(
            "error",
            "transformers 4 refuses the tokenizer",
            "tokenizer_class is TokenizersBackend",
            'write "tokenizer_class": "PreTrainedTokenizerFast"',
        )


def weights(place: Path, facts: Facts) -> Iterator[Finding]:
    """Safetensors, a head without bias, no adapters, no module buffers for calibration, nothing that is not a number."""
    from safetensors import SafetensorError

    files = sorted(place.glob("*.safetensors"))
    if not files:
        yield Finding("error", "no safetensors", "weights are pickled or absent", "save with safe_serialization")
    if (place / "adapter_config.json").is_file():
        yield Finding(
            "warning",
            "unmerged adapter",
            "adapter_config.json: most servers read merged weights only",
            "merge it into the base",
        )
    for file in files:
        try:
            yield from _tensors(file)
        except SafetensorError as error:
            yield Finding("error", "weights that cannot be read", f"{file.name}: {error}", "copy the file again")


def _tensors(file: Path) -> Iterator[Finding]:
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
                    "error",
                    "weights that are no numbers",
                    f"{name} holds NaN or infinity",
                    "take an earlier checkpoint",
                )
            if name == "score.bias" and value.abs().max() > 0:
                yield Finding(
                    "warning",
                    "a bias that readers ignore",
                    f"{name} is not zero: plain transformers drops it",
                    "fold it into reward.json's reference_mean",
                )


def self_test(place: Path, facts: Facts) -> Iterator[Finding]:
    """The texts whose scores were stored at saving still score the same."""
    rows = facts["card"].get("self_test") or []
    if not rows or facts["tokenizer"] is None:
        return
    from guerdon.models.directory.loading import load_reward_model

    try:
        stored = stored_dtype(str(place), ModelOptions())
        model = load_reward_model(place, make(ModelOptions, {"dtype": stored}))
        values = model.score([row[0] for row in rows], [row[1] for row in rows]).value
    except GuerdonError as error:
        yield Finding("error", "it cannot be scored with", str(error), "mend what the line names")
        return
    worst = max(abs(float(v) - row[2]) for v, row in zip(values, rows, strict=True))
    if worst > (1e-3 if stored == "float32" else 5e-2):  # half precision rounds in each machine's own way
        yield Finding(
            "error",
            "scores have changed",
            f"stored self-test scores differ by up to {worst:.3g} nats",
            "restore the files, or save the model again",
        )


CHECKS: tuple[Callable[[Path, Facts], Iterator[Finding]], ...] = (
    architecture, raw_scores, pad_token, bos, template, old_readers, weights, self_test,
)  # fmt: skip


def _read(place: Path) -> Facts:
    facts: Facts = {
        "config": _json(place / "config.json"),
        "card": {},
        "tokenizer_config": {},
        "rendered": None,
        "last_token": None,
        "template_hash": None,
    }
    for key, name in (("card", "reward.json"), ("tokenizer_config", "tokenizer_config.json")):
        if (place / name).is_file():
            facts[key] = _json(place / name)
    try:
        facts["tokenizer"] = read_tokenizer(str(place), ModelOptions())
    except GuerdonError as error:
        facts["tokenizer"], facts["tokenizer_error"] = None, str(error)
        return facts
    tokenizer = facts["tokenizer"]
    if tokenizer.chat_template:
        from guerdon.models.chat import ChatTokenizer

        text = ChatTokenizer(tokenizer, system=facts["card"].get("system"))
        facts["template_hash"] = text.template_hash
        try:
            turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
            facts["rendered"] = tokenizer.apply_chat_template(turns, tokenize=False)
            facts["last_token"] = tokenizer(facts["rendered"], add_special_tokens=False)["input_ids"][-1]
        except Exception:  # somebody's template: a failure is the finding
            facts["rendered"] = None
    return facts


def _json(path: Path) -> Facts:
    try:
        values = json.loads(path.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise GuerdonError(f"{path}: not valid JSON ({error}). Restore it from where the model was saved.") from None
    return values if isinstance(values, dict) else {}
