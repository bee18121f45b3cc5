"""A reward model for llama.cpp: the backbone as GGUF, the head with its calibration as JSON, and a client that joins them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from guerdon.config import ModelOptions
from guerdon.contracts import GuerdonError, as_prompt, as_response
from guerdon.io import writers
from guerdon.io.directories import write_directory
from guerdon.models.card import Card
from guerdon.models.chat import ChatTokenizer
from guerdon.models.chat_template import replace_surrogates
from guerdon.models.directory.formats import is_ensemble, read_card
from guerdon.models.directory.gguf_file import GgufType, import_gguf, refuse_unless_llama_cpp, write_gguf
from guerdon.models.directory.gguf_vocabulary import gguf_vocabulary
from guerdon.models.directory.layout import refuse_headless
from guerdon.models.directory.loading import bias_as_calibration, load_text
from guerdon.models.engine.pretrained import read_config
from guerdon.models.engine.stored_head import StoredHead, read_head
from guerdon.serving.handover.files import template_of

PARALLEL: Final = 4  # slots of llama-server, which share its context
FORMAT: Final = 1


def write_llama_cpp(folder: Path, out: Path, dtype: GgufType) -> str:
    """Write what llama.cpp and its client need for a saved reward model into the folder `out`, whole or not at all.

    Returns llama-server's options: four requests at once, and no float16 in its cache, which would round rewards.

    No weights are loaded: they are copied a tensor at a time. Raises GuerdonError for an ensemble, and for a model whose family or
    tokenizer llama.cpp is not known to compute alike.
    """
    import_gguf()
    options = ModelOptions(base=str(folder))
    if is_ensemble(folder):
        raise GuerdonError(
            f"{folder}: must be a single model to be written as GGUF, got an ensemble. "
            f"Make one head of it with `guerdon bake`, or export a member ({folder}/member-1)."
        )
    if not folder.is_dir():
        raise GuerdonError(
            f"{folder}: must be the directory of a saved model, got none. Pass what `guerdon train` wrote."
        )
    refuse_headless(str(folder), options)
    config = read_config(str(folder), options)
    refuse_unless_llama_cpp(config, str(folder))
    text = load_text(options)
    vocabulary = gguf_vocabulary(text.tokenizer, config.vocab_size, str(folder))
    head = _head_file(folder, text, read_head(folder, config)) | {"normalize": "NFC" if vocabulary.is_nfc else ""}
    context = PARALLEL * (text.max_length + 1)  # a text must be shorter than its slot
    server = f"--embedding -np {PARALLEL} -c {context} -fa off -ctk f32 -ctv f32"
    client = template_of("llama_cpp.py").substitute(options=server)

    def fill(scratch: Path) -> None:
        write_gguf(folder, config, vocabulary, scratch / "backbone.gguf", dtype, folder.resolve().name)
        writers.write_json(scratch / "head.json", head)
        writers.write_text(scratch / "reward.py", client)

    write_directory(out, fill)
    return server


def _head_file(folder: Path, text: ChatTokenizer, head: StoredHead | None) -> dict[str, Any]:
    """The head in nats, how conversations are rendered, and texts whose rewards are known."""
    card = read_card(folder)
    shares = np.array((card.attribute_weights if card else ()) or [1.0])
    if head is None or len(head.weight) != len(shares):
        raise GuerdonError(
            f"{folder}: must hold a linear head with {len(shares)} row(s), got {'none' if head is None else len(head.weight)}. "
            "Look at it with `guerdon doctor`."
        )
    if not bool(head.weight.isfinite().all()):
        raise GuerdonError(f"{folder}: its head must be finite, got NaN or infinity. Take an earlier checkpoint.")
    calibration = card.calibration if card else bias_as_calibration(head)
    weight = shares @ head.weight.double().numpy() / calibration.temperature
    return {
        "version": FORMAT,
        "weight": weight.tolist(),
        "constant": -calibration.reference_mean / calibration.temperature,
        "max_length": text.max_length,
        "template": text.saved_template,
        "special_tokens": dict(text.tokenizer.special_tokens_map),
        "self_test": _self_test(card, text) if card else [],
    }


def _self_test(card: Card, text: ChatTokenizer) -> list[dict[str, Any]]:
    """The texts on the card that have at most the model's maximum length, rendered, with their rewards in nats."""
    calibration = card.calibration
    rows = []
    for prompt, response, score in card.self_test:
        rendered = replace_surrogates(text.render(as_prompt(prompt), as_response(response)))
        if len(text.token_ids([rendered])[0]) <= text.max_length:
            rows.append({"text": rendered, "reward": (score - calibration.reference_mean) / calibration.temperature})
    return rows
