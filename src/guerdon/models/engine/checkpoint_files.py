"""The files of a checkpoint on disk, checked before transformers reads them; what its loaders raise becomes one line.

A name on the hub is left to transformers. Only the keys that decide how a model is read are described here; every family has more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, TypeAdapter

from guerdon.contracts import GuerdonError
from guerdon.errors import field_error
from guerdon.io.json_files import RESTORE, parse_object, read_object

INDEX: Final = "model.safetensors.index.json"
ADAPTER: Final = "adapter_config.json"


class _Described(BaseModel):
    """Some keys of a JSON file; the others are somebody else's."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


class ConfigFile(_Described):
    """config.json."""

    model_type: str | None = None
    architectures: list[str] | None = None
    auto_map: dict[str, Any] | None = None
    id2label: dict[str, str] | None = None
    label2id: dict[str, int] | None = None
    problem_type: str | None = None
    pad_token_id: int | None = None
    bos_token_id: int | list[int] | None = None
    eos_token_id: int | list[int] | None = None
    value_head_prefix: str | None = None
    dtype: str | None = None
    torch_dtype: str | None = None
    rope_parameters: dict[str, Any] | None = None
    rope_scaling: dict[str, Any] | None = None
    rope_theta: float | None = None
    vocab_size: int | None = None
    hidden_size: int | None = None
    num_hidden_layers: int | None = None
    tie_word_embeddings: bool | None = None


class TokenizerConfigFile(_Described):
    """tokenizer_config.json."""

    tokenizer_class: str | None = None
    chat_template: str | list[dict[str, str]] | dict[str, str] | None = None
    model_max_length: float | None = None
    model_input_names: list[str] | None = None
    padding_side: str | None = None
    truncation_side: str | None = None
    added_tokens_decoder: dict[str, dict[str, Any]] | None = None
    bos_token: str | dict[str, Any] | None = None
    eos_token: str | dict[str, Any] | None = None
    pad_token: str | dict[str, Any] | None = None
    unk_token: str | dict[str, Any] | None = None


class TokenizerFile(_Described):
    """tokenizer.json."""

    model: dict[str, Any]


class GenerationConfigFile(_Described):
    """generation_config.json."""

    bos_token_id: int | list[int] | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None
    max_length: int | None = None
    temperature: float | None = None


class IndexFile(_Described):
    """model.safetensors.index.json: in which shard each tensor is."""

    weight_map: dict[str, str]
    metadata: dict[str, Any] = {}


class AdapterFile(_Described):
    """adapter_config.json of peft."""

    base_model_name_or_path: str | None = None
    modules_to_save: list[str] | None = None


COUNTS: Final = re.compile("layer|expert|head|block|num_labels")  # keys for which transformers builds that many objects
MANY: Final = 4096
KINDS: Final[Mapping[str, Any]] = {
    "config.json": ConfigFile,
    "generation_config.json": GenerationConfigFile,
    "tokenizer_config.json": TokenizerConfigFile,
    "tokenizer.json": TokenizerFile,
    "special_tokens_map.json": dict[str, Any],
    "added_tokens.json": dict[str, int],
    INDEX: IndexFile,
    ADAPTER: AdapterFile,
}
SMALL_TOKENIZER_FILES: Final = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def read_checkpoint_file(file: Path) -> dict[str, Any]:
    """The object in one of a checkpoint's JSON files. GuerdonError names the file and the key that is wrong."""
    values = read_object(file)
    parse_object(values, TypeAdapter(KINDS[file.name]), str(file))
    for key, value in values.items() if file.name == "config.json" else ():
        if isinstance(value, int) and value > MANY and COUNTS.search(key):
            raise field_error(f"{file}: {key}", f"at most {MANY}", value, RESTORE)
    return values


def refuse_damaged(source: str, *names: str) -> None:
    """Raise if one of these files of a directory is damaged; a file that is absent, or a hub name, passes."""
    for name in names:
        if (file := Path(source) / name).is_file():
            read_checkpoint_file(file)


def read_adapter(folder: Path) -> dict[str, Any] | None:
    """adapter_config.json of a directory; None if it has none."""
    file = folder / ADAPTER
    return read_checkpoint_file(file) if file.is_file() else None


def shards_of(folder: Path) -> list[Path]:
    """The safetensors files that hold a directory's weights: those of the index where there is one, else all."""
    index = folder / INDEX
    if not index.is_file() or (folder / "model.safetensors").is_file():
        return sorted(folder.glob("*.safetensors"))
    names = sorted(set(read_checkpoint_file(index)["weight_map"].values()))
    if not names:
        raise field_error(f"{index}: weight_map", "a file per tensor", {}, RESTORE)
    for name in names:
        if name != Path(name).name or not (folder / name).is_file():
            raise field_error(f"{index}: weight_map", "names of files next to it", name, RESTORE)
    return [folder / name for name in names]


@contextmanager
def one_line(message: str) -> Iterator[None]:
    """Inside the block, whatever a third-party reader raises over a user's file becomes `message`; {reason} is its first line.

    Damaged files reach these readers in ways that nobody can list, so this is the one place that catches everything.
    """
    try:
        yield
    except GuerdonError:
        raise
    except Exception as error:
        raise GuerdonError(message.replace("{reason}", first_line(error))) from None


def first_line(error: Exception) -> str:
    """The first line of an error's message, at most 200 characters, without its period."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(".")
