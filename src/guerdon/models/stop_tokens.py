"""The tokens that end a reply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from guerdon.contracts import GuerdonError
from guerdon.models.rendering import apply_template


def stop_tokens(model: Any, tokenizer: Any, names: Sequence[str] = ()) -> frozenset[int]:
    """The model's and the tokenizer's end tokens, the chat template's end of turn, and the tokens given by name."""
    of_model = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids = {*(of_model if isinstance(of_model, list) else [of_model]), tokenizer.eos_token_id, closing_token(tokenizer)}
    vocabulary = tokenizer.get_vocab() if names else {}
    for name in names:
        if name not in vocabulary:
            raise GuerdonError(
                f"policy.stop must be single tokens of the tokenizer, got {name!r}. Use one such as <|im_end|>."
            )
        ids.add(vocabulary[name])
    return frozenset(int(token) for token in ids if token is not None)


def closing_token(tokenizer: Any) -> int | None:
    """The special token that the chat template puts after a reply; None where it puts none."""
    if not tokenizer.chat_template:
        return None
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    try:
        ids = tokenizer(apply_template(tokenizer, turns), add_special_tokens=False)["input_ids"]
    except GuerdonError:
        raise
    except Exception:  # a template that refuses this probe may still accept other conversations
        return None
    content = tokenizer("b", add_special_tokens=False)["input_ids"]
    last = max((i for i in range(len(ids)) if ids[i : i + len(content)] == content), default=None)
    after = ids[last + len(content) :] if last is not None else []
    special = set(tokenizer.all_special_ids)
    return next((int(token) for token in after if token in special), None)
