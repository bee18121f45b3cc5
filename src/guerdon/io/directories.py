"""Write a whole directory or nothing: filled next to its final place, then renamed there.

A directory that is written so lists its files in guerdon/files.json, and only a directory that holds nothing else is ever
replaced.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from guerdon.errors import GuerdonError
from guerdon.io.temporary import remove, remove_abandoned, replaced_by, temporary_path
from guerdon.io.writers import sync_folder

FILES: Final = Path("guerdon") / "files.json"  # not next to the weights, so that no other reader meets it
FORMAT: Final = 1
LONGEST_RENAME: Final = 2.0  # seconds
ADDED: Final = {  # by commands that change a saved model in place
    "reward.json", "ensemble.json", "README.md", "guerdon/uncertainty.safetensors", str(FILES),
}  # fmt: skip
# The next two lines are what model cards begin with, today and in 0.1; a README without either is its user's.
CARD_MARK: Final = (
    "<!-- Written by Guerdon from an audit. The next audit overwrites it; to keep your changes, delete this line. -->"
)
OLD_CARD_MARK: Final = (
    "<!-- Written by Assay from its audit, and written over by the next one: to keep changes, delete this line. -->"
)
OLD_SIGNS: Final = ("reward.json", "ensemble.json", "state.json")  # one of these was in what older versions wrote
OLD_FOLDERS: Final = re.compile(
    r"(member-\d+/)?((assay|guerdon)/)?"
)  # where older versions wrote into such a directory
OLD_NAMES: Final = {  # all that they wrote there
    "config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "chat_template.jinja", "added_tokens.json", "vocab.json", "merges.txt", "vocab.txt",
    "tokenizer.model", "tensors.safetensors", "state.json", "uncertainty.safetensors", "reward.json", "ensemble.json",
    "README.md",
}  # fmt: skip


def write_directory(
    folder: Path, fill: Callable[[Path], None], advice: str = "Free space, or write elsewhere."
) -> None:
    """Let `fill` write into a scratch directory, then rename that to `folder`.

    An older directory that Guerdon wrote is replaced; a kill leaves the older one, or nothing. Raises GuerdonError, which
    ends with the advice, where the operating system does not let us write, and for a folder of somebody else.
    """
    from safetensors import SafetensorError

    target = Path(os.path.realpath(folder))  # a symbolic link stays a link
    recover(target)
    refuse_foreign_folder(target)
    scratch = target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(target.parent)
        scratch = temporary_path(target)
        scratch.mkdir()
        fill(scratch)
        _list_files(scratch)
        _flush(scratch)
        refuse_foreign_folder(target)  # again: filling may take long
        old = temporary_path(target, "old")
        if target.exists():
            target.rename(old)
        scratch.rename(target)
        sync_folder(target.parent)
        remove(old)
    except (OSError, SafetensorError) as error:  # safetensors reports a full disk as its own error
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0].strip()
        raise GuerdonError(f"cannot write {folder}: {reason}. {advice}") from None
    finally:
        if scratch != target:
            remove(scratch)


def recover(folder: Path) -> None:
    """Restore a directory that a kill between the two renames of write_directory left under a hidden name.

    Where another process is between the two renames now, wait for the second.
    """
    target = Path(os.path.realpath(folder))
    running, abandoned = replaced_by(target)
    older = target.with_name(f".{target.name}.old")  # the name that older versions gave
    abandoned += [older] if older.is_dir() else []
    end = time.monotonic() + LONGEST_RENAME
    while running and not os.path.lexists(target) and time.monotonic() < end:
        time.sleep(0.01)
    for path in sorted(abandoned, key=lambda path: path.lstat().st_mtime, reverse=True):
        if os.path.lexists(target):
            remove(path)
        else:
            path.rename(target)


def refuse_foreign_folder(folder: Path) -> None:
    """Raise GuerdonError unless the folder may be replaced: it is new or empty, or holds only what Guerdon wrote."""
    if not os.path.lexists(folder) or (folder.is_dir() and next(folder.iterdir(), None) is None):
        return
    if not folder.is_dir():
        raise GuerdonError(f"{folder}: is a file, so it is not replaced by a directory. Write elsewhere.")
    listed = _listed_files(folder)
    names = sorted(
        str(file.relative_to(folder)) for file in folder.rglob("*") if not file.is_dir() or file.is_symlink()
    )
    foreign = [name for name in names if name not in listed or _is_users_readme(folder / name)]
    if foreign or not names:
        reason = f"holds {foreign[0]}, which Guerdon did not write" if foreign else "holds folders of somebody else"
        raise GuerdonError(f"{folder}: {reason}, so it is not replaced. Write elsewhere, or move it away.")


def refuse_other_kind(folder: Path, sign: str) -> None:
    """Raise GuerdonError unless the folder may be replaced by what holds a file `sign`: a model or a checkpoint may not."""
    refuse_foreign_folder(folder)
    if folder.is_dir() and next(folder.iterdir(), None) is not None and not (folder / sign).is_file():
        raise GuerdonError(
            f"{folder}: must be a new folder or an older export, got another without {sign}, which is not replaced. Write elsewhere."
        )


def refuse_parts_of(inputs: Iterable[Path], folder: Path) -> None:
    """Raise GuerdonError if the folder exists and is a part of a directory that is read."""
    target = Path(os.path.realpath(folder))
    for path in inputs:
        if target.exists() and Path(os.path.realpath(path)) in target.parents:
            raise GuerdonError(f"{folder}: is a part of {path}, which is read, so it is not replaced. Write elsewhere.")


def _listed_files(folder: Path) -> set[str]:
    """The files of a directory that are ours: those that it lists, or those with the names that older versions gave."""
    try:
        values = json.loads((folder / FILES).read_bytes())
        listed = {str(name) for name in values["files"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        if not any((folder / name).is_file() for name in OLD_SIGNS):
            return set()
        names = (file.relative_to(folder).as_posix() for file in folder.rglob("*"))
        return {name for name in names if _is_old_name(name)}
    members = {name.rpartition("/")[0] for name in listed if name.endswith("/reward.json")}
    return listed | ADDED | {f"{member}/{name}" for member in members for name in ADDED}


def _is_old_name(name: str) -> bool:
    """Whether older versions gave a file this name, relative to its directory; a copy elsewhere in it is the user's."""
    *_, file = name.rpartition("/")
    is_shard = file.startswith("model-") and file.endswith(".safetensors")
    return (file in OLD_NAMES or is_shard) and OLD_FOLDERS.fullmatch(name.removesuffix(file)) is not None


def _is_users_readme(file: Path) -> bool:
    if file.name != "README.md":
        return False
    text = file.read_text("utf-8", "replace")
    return CARD_MARK not in text and OLD_CARD_MARK not in text


def _list_files(scratch: Path) -> None:
    """Write guerdon/files.json: the names of all files in the directory, relative to it."""
    (scratch / FILES).parent.mkdir(exist_ok=True)
    names = sorted(file.relative_to(scratch).as_posix() for file in scratch.rglob("*") if file.is_file())
    (scratch / FILES).write_text(json.dumps({"version": FORMAT, "files": names}, indent=1) + "\n", "utf-8")


def _flush(scratch: Path) -> None:
    """Give every file the usual permissions (safetensors writes for its owner alone) and flush it to the disk."""
    for path in scratch.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    os.chmod(scratch, 0o755)
