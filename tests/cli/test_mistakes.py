"""A user's mistake is one line that names the place and what to do, with exit code 2, no traceback and no partial output."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from errors import gives_advice
from safetensors.torch import load_file, save_file
from shell import guerdon
from toys import liked

from guerdon import Comparison, Preference, Response
from guerdon.api import data, saved_models
from guerdon.config import ModelOptions
from guerdon.contracts import as_prompt
from guerdon.io import readers
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.directory.saving import save

TIE = Preference(q=0.5)
RULES = """
def length(prompts, responses):
    return [len(r.text) for r in responses]

def raises(prompts, responses):
    raise ValueError("no")

def nan(prompts, responses):
    return [float("nan")] * len(responses)

def short(prompts, responses):
    return [1.0]
"""
OUT = ("--out", "{out}/x")


@pytest.fixture(scope="module")
def desk(tiny_dir, tmp_path_factory):
    """Good and bad files and models, to read only."""
    place = tmp_path_factory.mktemp("desk")
    few = liked(40)
    rows = {
        "good": few,
        "one": few[:1],
        "ties": [dataclasses.replace(c, preference=TIE, id="") for c in few],
        "same": [dataclasses.replace(c, responses=c.responses[:1] * 2, id="") for c in few],
        "long": [*few, Comparison(as_prompt("write " * 600), (Response("good"), Response("bad")), Preference(q=1.0))],
    }
    for name, comparisons in rows.items():
        data.write(place / f"{name}.jsonl", comparisons)
    (place / "empty.jsonl").write_text("")
    (place / "words.jsonl").write_text("hello\n")
    (place / "photo.jsonl").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    (place / "folder.jsonl").mkdir()
    (place / "row.jsonl").write_text('{"prompt": "a", "response": "b"}\n{"prompt": "a", "answer": "b"}\n')
    (place / "rows.jsonl").write_text('{"prompt": "a", "answer": "b"}\n' * 2)
    (place / "blank.jsonl").write_text('{"prompt": ""}\n{"prompt": "  "}\n')
    (place / "numbers.jsonl").write_text('{"prompt": 3}\n')
    (place / "rule.py").write_text(RULES)
    (place / "no-python.py").write_text("def f(:\n")
    (place / "no-module.py").write_text("import nobody\n")
    (place / "broken.yaml").write_text("train: [1\n")
    (place / "list.yaml").write_text("- 1\n")
    (place / "unknown.yaml").write_text("train:\n  bach_size: 1\n")
    shutil.copytree(tiny_dir, place / "tiny")
    shutil.copytree(tiny_dir, place / "bare")
    (place / "bare" / "chat_template.jinja").unlink()
    (place / "nothing").mkdir()
    save(create_reward_model(ModelOptions(base=str(tiny_dir))), place / "model")
    shutil.copytree(tiny_dir, place / "nan-lm")
    tensors = load_file(place / "nan-lm/model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, place / "nan-lm/model.safetensors", {"format": "pt"})
    shutil.copytree(place / "model", place / "nan")
    tensors = load_file(place / "nan/model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, place / "nan/model.safetensors", {"format": "pt"})
    return place


def run(desk: Path, out: Path, *words: str):
    """The command with {desk} and {out} filled in."""
    return guerdon(*(word.replace("{desk}", str(desk)).replace("{out}", str(out)) for word in words))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def train(data: str = "good", base: str = "tiny", *more: str) -> tuple[str, ...]:
    return ("train", "--data", f"{{desk}}/{data}.jsonl", "--base", f"{{desk}}/{base}", *OUT, *more)


def on_model(verb: str, data: str = "good", model: str = "model") -> tuple[str, ...]:
    """calibrate, audit or score a file."""
    out = ("--out", "{out}/x.jsonl") if verb == "score" else OUT
    return (verb, f"{{desk}}/{model}", "--data", f"{{desk}}/{data}.jsonl", *out)


def ppo(*more: str, verb: str = "ppo", prompts: str = "good", rule: bool = True) -> tuple[str, ...]:
    """A small run of optimize ppo, or of another verb."""
    given = ("--policy", "{desk}/tiny") if "--policy" not in more else ()
    given += ("--reward", "{desk}/rule.py:length") if rule and "--reward" not in more else ()
    sizes = ("optimize.updates=1", "optimize.max_tokens=2", "optimize.check_every=0")
    sizes = ("best_of_n.max_tokens=2",) if verb == "best-of-n" else sizes
    own = tuple(word for word in sizes if word.partition("=")[0] not in {w.partition("=")[0] for w in more})
    return ("optimize", verb, "--prompts", f"{{desk}}/{prompts}.jsonl", *given, *OUT, *own, *more)


EVERY_READER = {
    "import": lambda data: ("import", f"{{desk}}/{data}.jsonl", "--out", "{out}/x.jsonl"),
    "check": lambda data: ("check", f"{{desk}}/{data}.jsonl"),
    "inspect": lambda data: ("inspect", f"{{desk}}/{data}.jsonl", "--html", "{out}/x.html"),
    "split": lambda data: ("split", f"{{desk}}/{data}.jsonl", *OUT),
    "train": train,
    "calibrate": lambda data: on_model("calibrate", data),
    "audit": lambda data: on_model("audit", data),
    "score": lambda data: on_model("score", data),
}


def assert_refused(ran, complaint: str, out: Path) -> None:
    lines = ran.err.splitlines()
    assert ran.code == 2, ran
    assert lines[-1].startswith("error: ")
    assert sum(line.startswith("error: ") for line in lines) == 1
    assert not any("Traceback" in line for line in lines)
    assert complaint in lines[-1], lines[-1]
    assert gives_advice(lines[-1]), lines[-1]
    assert not tree(out)


@pytest.mark.parametrize("verb", EVERY_READER)
@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ("missing", "missing.jsonl: no such file"),
        ("empty", "empty.jsonl: holds no rows"),
        ("folder", "folder.jsonl: is a directory, not a file"),
        ("photo", "photo.jsonl: is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(desk, tmp_path, verb, data, complaint):
    ran = run(desk, tmp_path, *EVERY_READER[verb](data))
    assert_refused(ran, complaint, tmp_path)
    assert len(ran.err.splitlines()) == 1 or verb == "import"


@pytest.mark.parametrize("verb", EVERY_READER)
def test_a_file_without_permission_is_named(desk, tmp_path, monkeypatch, verb):
    opened = Path.open

    def refuse(path, *how, **more):
        if path.name == "good.jsonl" and path.parent == desk:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *how, **more)

    monkeypatch.setattr(Path, "open", refuse)
    ran = run(desk, tmp_path, *EVERY_READER[verb]("good"))
    assert_refused(ran, "good.jsonl: cannot be read (Permission denied). Check its permissions.", tmp_path)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        # comparisons that cannot be used
        (train("ties"), "comparisons must have a preferred response, got 40 that are all ties. Add"),
        (on_model("calibrate", "ties"), "comparisons must have a preferred response, got 40 pairs that are all ties. Add"),
        (train("same"), "as the model sees them, got 40 of 40 comparisons with identical responses"),
        (on_model("calibrate", "same"), "margins must differ from 0, got 40 margins that are all 0. Train"),
        (train("long"), "model.max_length=512: comparisons must not be longer, got 1 of 41 that is (longest 607 tokens; first "),
        (on_model("calibrate", "long"), "model.max_length=512: 2 of 82 texts are longer (longest 607 tokens)"),
        (on_model("audit", "long"), "model.max_length=512: 2 of 82 texts are longer (longest 607 tokens)"),
        (on_model("score", "long"), "model.max_length=512: 2 of 82 texts are longer (longest 607 tokens)"),
        (train("words"), "words.jsonl:1: is not valid JSON"),
        (on_model("score", "words"), "words.jsonl:1: is not valid JSON"),
        (on_model("score", "rows"), "rows.jsonl:1: row must be an object with prompt and response"),
        # models that cannot be loaded
        (train("good", "bare"), "bare: the tokenizer must have a chat template, got none. Set model.template=plain"),
        (train("good", "nothing"), "nothing: not a readable model (no config.json)"),
        (train("good", "missing"), "missing: not a directory, and no model from the hub"),
        (train("good", "good.jsonl"), "good.jsonl: not a directory, and no model from the hub"),
        (train("good", "nan"), "nan: weight model.norm.weight must be finite, it holds NaN or infinity"),
        (on_model("score", "good", "nan"), "nan: weight model.norm.weight must be finite, it holds NaN or infinity"),
        (on_model("audit", "good", "nan"), "nan: weight model.norm.weight must be finite, it holds NaN or infinity"),
        (on_model("score", "good", "nothing"), "nothing: holds no config.json, so it is not a model"),
        (
            ("score", "{desk}/good", "--prompt", "a", "--response", "b", "model.base=x"),
            "model.base must be left out for a saved model, which has its own. Leave it out.",
        ),
        (on_model("audit", "good", "tiny"), "tiny: architecture LlamaForCausalLM has no reward head"),
        (on_model("calibrate", "good", "good.jsonl"), "good.jsonl: a reward model must be a directory, this is a file"),
        (("doctor", "{desk}/nothing"), "nothing: holds no config.json, so it is not a model"),
        (("doctor", "{desk}/missing"), "missing: no such directory"),
        (("doctor", "{desk}/tiny", "--repair", "{out}/x"), "tiny: no scalar head among its tensors"),
        # options
        (train("good", "tiny", "train.bach_size=1"), "train.bach_size is not an option. Did you mean train.batch_size?"),
        (train("good", "tiny", "trian.lr=1"), "trian is not an option. Did you mean train?"),
        (train("good", "tiny", "batch_size=1"), "override must be STAGE.NAME=VALUE, got 'batch_size=1'. Write"),
        (train("good", "tiny", "train.lr=fast"), "train.lr must be a valid number, got 'fast'"),
        (train("good", "tiny", "train.lr=[1"), "(expected ',' or ']', but got '<stream end>'), got 'train.lr=[1'. Correct or quote"),
        (
            train("good", "tiny", "model.max_length=600"),
            "model.max_length must be at most 512, the context of {desk}/tiny, got 600. Set model.max_length=512.",
        ),
        (train("good", "tiny", "--config", "{desk}/broken.yaml"), "broken.yaml: is not valid YAML"),
        (train("good", "tiny", "--config", "{desk}/list.yaml"), "list.yaml: the file must be a mapping of stages to options, got [1]"),
        (train("good", "tiny", "--config", "{desk}/unknown.yaml"), "train.bach_size is not an option"),
        (train("good", "tiny", "--config", "{desk}/missing.yaml"), "missing.yaml: no such file"),
        (train("good", "tiny", "--recipe", "smal"), "--recipe must be one of starter, quickstart, small, reference, got smal. Choose"),
        (train("good", "tiny", "train.patience=2"), "train.patience must be 0 without held-out comparisons, got 2. Give"),
        (("split", "{desk}/good.jsonl", *OUT, "split.train=0.9"), "split: train + calibrate + audit must be 1, got 0.9 + 0.1 + 0.1 = 1.1"),
        (("import", "{desk}/good.jsonl", "--out", "{out}/x.txt"), "x.txt: the ending must be .jsonl, .jsonl.gz or .parquet, got '.txt'"),
        (("import", "{desk}/good.jsonl", "--out", "{out}/x.jsonl", "--column", "a"), "--column must be OURS=THEIRS, got 'a'. Write"),
        (("import", "{desk}/words.jsonl", "--out", "{out}/x.jsonl", "--strict"), "words.jsonl:1: is not valid JSON"),
        (("score", "{desk}/model", "--prompt", "a"), "Give --data FILE with --out FILE, or --prompt TEXT"),
        # a policy and its reward
        (ppo("--reward", "{desk}/nothing"), "nothing: holds no config.json, so it is not a model"),
        (ppo("--reward", "{desk}/tiny"), "tiny: architecture LlamaForCausalLM has no reward head"),
        (ppo("--reward", "{desk}/none.py:f"), "{desk}/none.py: must be a readable Python file, got [Errno 2] No such file"),
        (ppo("--reward", "{desk}/rule.py:lenght"), "rule.py: must define the function lenght, got none. Did you mean length?"),
        (ppo("--reward", "{desk}/no-python.py:f"), "no-python.py: raised SyntaxError ("),
        (ppo("--reward", "{desk}/no-module.py:f"), "no-module.py: raised ModuleNotFoundError (No module named 'nobody'). Fix the file"),
        (ppo("--gold", "{desk}/model/../rule.py:length", "optimize.check_every=1"), "gold must share nothing with the reward"),
        (ppo("optimize.betas=[0.9, 2]"), "optimize.betas[1] must be less than 1, got 2"),
        (ppo("optimize.seed=99999999999999999999"), "optimize.seed must be less than"),
        (ppo("optimize.value_warmup=1"), "optimize.value_warmup must be less than optimize.updates=1, "),
        (ppo("optimize.min_length=9", "optimize.max_length=9"), "optimize.min_length must be less than optimize.max_length=9"),
        (ppo("best_of_n.most_n=5", "best_of_n.n=4", verb="best-of-n"), "best_of_n.most_n must be at most best_of_n.n=4"),
        (ppo("--out", "{out}/pool.txt", verb="best-of-n"), "pool.txt: the ending must be .jsonl, got '.txt'. Change the ending."),
        (ppo("--out", "{desk}/rule.py", verb="best-of-n"), "{desk}/rule.py: must not be what is read, which the command would"),
        (ppo("--weight", "1", "--weight", "2"), "--weight must be given once per --reward, got 2 for 1. Give one for each"),
        (ppo(prompts="empty"), "empty.jsonl: holds no rows"),
        (ppo(prompts="blank"), "prompts: at least one of 2 must fit, got none (empty). Give other prompts"),
        (ppo(prompts="numbers"), "numbers.jsonl:1: prompt must be text"),
        (ppo("--policy", "{desk}/missing"), "missing: not a directory, and no model from the hub"),
        (ppo("--policy", "{desk}/nan-lm"), "nan-lm: weight model.norm.weight must be finite, it holds NaN or infinity"),
        (ppo("--policy", "{desk}/model"), "model: is a reward model or a classifier, which cannot generate. Pass a language model"),
        (ppo("--sft", "{desk}/good.jsonl", verb="best-of-n"), "{desk}/good.jsonl: must not be what is read, which the command would"),
        (ppo("optimize.samples=1", verb="rloo"), "optimize.samples must be 2 or more with optimize.baseline=leave_one_out"),
        (ppo("optimize.baseline=group"), "optimize.baseline must be value in this command, got group. Use"),
        (ppo("optimize.keep=best_gold"), "optimize.keep: needs a gold judge"),
        (ppo("optimize.reward_scale=reference"), "the model must store a reference mean and spread. Calibrate"),
        (ppo("optimize.value=reward"), "optimize.value=reward: the reward must be one of our models"),
        (ppo("optimize.minibatches=99"), "optimize.minibatches must be at most 32, the replies in a batch, got 99. Set"),
        (ppo("--reward", "{desk}/model", "policy.system=x", rule=False), "must share a system message, got 'x' and None"),
        (ppo(verb="best-of-n", prompts="empty"), "empty.jsonl: holds no rows"),
        (("audit", "overoptimization", "{desk}/nothing"), "nothing: must have at least two checks, got 0. Set optimize.check_every"),
        (("audit", "overoptimization", "{desk}/good.jsonl"), "good.jsonl:1"),
        # paths that cannot be written
        (("import", "{desk}/good.jsonl", "--out", "/proc/nobody/x.jsonl"), "cannot write /proc/nobody/"),
        (("split", "{desk}/good.jsonl", "--out", "/proc/nobody"), "cannot write /proc/nobody: "),
        ((*train()[:-2], "--out", "/proc/nobody"), "cannot write /proc/nobody"),
        ((*on_model("calibrate")[:-2], "--out", "/proc/nobody/x.jsonl"), "cannot write /proc/nobody/x.jsonl"),
        ((*on_model("audit")[:-2], "--out", "/proc/nobody/x"), "cannot write /proc/nobody/x: "),
        ((*on_model("score")[:-2], "--out", "/proc/nobody/x.jsonl"), "cannot write /proc/nobody/x.jsonl"),
        (("doctor", "{desk}/model", "--repair", "/proc/nobody/x"), "cannot write /proc/nobody/x"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_its_place_and_advice(desk, tmp_path, words, complaint):
    assert_refused(run(desk, tmp_path, *words), complaint.replace("{desk}", str(desk)), tmp_path)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ("missing", "missing.jsonl: no such file"),
        ("empty", "empty.jsonl: holds no rows"),
        ("words", "words.jsonl: at least one row must be a comparison, got 1 row that is not. See"),
        (
            "one",
            "one.jsonl: at least 20 prompt groups are needed to leave some for the audit, got 1 in 1 comparisons. Give",
        ),
        ("same", "same.jsonl: responses must differ, got identical ones in all 40 comparisons. Give"),
        ("ties", "comparisons must have a preferred response, got"),
    ],
)
def test_the_quickstart_refuses_data_it_cannot_use(desk, tmp_path, data, complaint):
    ran = run(desk, tmp_path, "quickstart", "--data", f"{{desk}}/{data}.jsonl", *OUT, "model.base={desk}/tiny")
    assert ran.code == 2
    assert complaint in ran.err.splitlines()[-1]
    assert "Traceback" not in ran.err
    assert not (tmp_path / "x/model").exists()
    assert not (tmp_path / "x/report.html").exists()


@pytest.mark.parametrize("words", [("quickstart", *OUT), ("train", "--data", "{desk}/good.jsonl", *OUT)])
def test_a_first_run_without_network_names_what_is_missing(desk, tmp_path, monkeypatch, words):
    monkeypatch.setenv("GUERDON_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    ran = run(desk, tmp_path / "out", *words)
    assert ran.code == 2
    last = ran.err.splitlines()[-1]
    assert last.startswith("error: ")
    assert gives_advice(last)
    assert "Traceback" not in ran.err
    assert not (tmp_path / "out/x/model").exists()
    assert not [p for p in (tmp_path / "home").rglob("*") if p.is_file()]


@pytest.mark.parametrize("home", ["/proc/nobody", "{desk}/good.jsonl"])
@pytest.mark.parametrize("words", [("quickstart", *OUT), ("train", "--data", "{desk}/good.jsonl", *OUT)])
def test_a_cache_that_cannot_be_written_is_named(desk, tmp_path, monkeypatch, home, words):
    home = home.replace("{desk}", str(desk))
    monkeypatch.setenv("GUERDON_HOME", home)
    ran = run(desk, tmp_path, *words)
    assert ran.code == 2
    assert f"error: {home}: cannot write the cache" in ran.err.splitlines()[-1]
    assert "Set GUERDON_HOME to a folder that you can write to." in ran.err


WRITERS = {
    "import": ("import", "{desk}/good.jsonl", "--out", "{out}/x/all.jsonl"),
    "inspect": ("inspect", "{desk}/good.jsonl", "--html", "{out}/x/page.html"),
    "split": ("split", "{desk}/good.jsonl", *OUT),
    "train": train("good", "tiny", "train.save_every=1"),
    "train without checkpoints": train("good", "tiny", "train.save_every=0"),
    "calibrate": on_model("calibrate"),
    "audit": on_model("audit"),
    "score": on_model("score"),
    "doctor": ("doctor", "{desk}/model", "--repair", "{out}/x"),
}


@pytest.mark.parametrize("verb", WRITERS)
def test_a_full_disk_is_reported_and_leaves_no_partial_output(desk, tmp_path, monkeypatch, verb):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    ran = run(desk, tmp_path, *WRITERS[verb])
    assert_refused(ran, "No space left on device", tmp_path)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small disk")
def test_a_disk_that_is_really_full_is_reported_too(desk, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "none", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("may not mount")
    try:
        for verb in WRITERS:
            ran = run(desk, disk / verb, *WRITERS[verb])
            assert ran.code == 2, (verb, ran)
            assert "No space left on device" in ran.err.splitlines()[-1]
            assert "Traceback" not in ran.err
            kept = {
                "config.yaml",
                "metrics.jsonl",
                "all.rejected.jsonl",
                "hygiene.json",
                "scores.jsonl",
            }  # to go on from
            assert {Path(name).name for name in tree(disk)} <= kept
            shutil.rmtree(disk / verb, ignore_errors=True)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_an_existing_file_stays_when_a_command_fails(desk, tmp_path):
    for verb in ("import", "score"):
        (tmp_path / "x.jsonl").write_text("mine")
        words = {
            "import": ("import", "{desk}/words.jsonl", "--out", "{out}/x.jsonl", "--strict"),
            "score": ("score", "{desk}/model", "--data", "{desk}/rows.jsonl", "--out", "{out}/x.jsonl"),
        }
        assert run(desk, tmp_path, *words[verb]).code == 2
        assert tree(tmp_path) == {"x.jsonl": b"mine"}


def test_a_usage_error_exits_with_two(desk, tmp_path):
    for words in (("nonsense",), ("train",), ("check", "{desk}/good.jsonl", "--nonsense")):
        ran = run(desk, tmp_path, *words)
        assert ran.code == 2
        assert "Error: " in ran.err
        assert "Traceback" not in ran.err


def test_ctrl_c_prints_no_traceback(desk, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(saved_models, "doctor", interrupt)
    ran = run(desk, tmp_path, "doctor", "{desk}/model")
    assert ran.code != 0
    assert "Traceback" not in ran.err


def test_bad_rows_are_set_aside_with_their_reason_and_the_rest_is_imported(desk, tmp_path):
    lines = (desk / "good.jsonl").read_text("utf-8").splitlines()
    (tmp_path / "some.jsonl").write_text("\n".join([lines[0], "hello", lines[1]]) + "\n")
    ran = run(desk, tmp_path, "import", "{out}/some.jsonl", "--out", "{out}/all.jsonl", "--json")
    assert ran.code == 0
    assert json.loads(ran.out)["comparisons"] == 2
    assert json.loads(ran.out)["rejected"] == 1
    (row,) = [json.loads(line) for line in (tmp_path / "all.rejected.jsonl").read_text("utf-8").splitlines()]
    assert row["place"] == f"{tmp_path / 'some.jsonl'}:2"
    assert row["row"] == "hello"
    assert len(list(readers.read_comparisons(tmp_path / "all.jsonl"))) == 2


def test_the_current_folder_can_be_a_model(desk, tmp_path, monkeypatch):
    shutil.copytree(desk / "model", tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    ran = guerdon("score", ".", "--prompt", "a", "--response", "b", "--json")
    assert ran.code == 0
    assert guerdon("doctor", ".").code == 0
    assert guerdon("calibrate", ".", "--data", desk / "good.jsonl", "--out", ".").code == 0
    assert guerdon("score", tmp_path / "here", "--prompt", "a", "--response", "b", "--json").code == 0


def test_rejected_rows_of_two_imports_are_kept_apart(desk, tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.csv").write_text(f"prompt,chosen,rejected\n{name},a,b\n{name},a,\n")
        assert run(desk, tmp_path, "import", f"{{out}}/{name}.csv", "--out", f"{{out}}/{name}.jsonl").code == 0
    rejected = [json.loads((tmp_path / f"{name}.rejected.jsonl").read_text()) for name in ("one", "two")]
    assert [row["row"]["prompt"] for row in rejected] == ["one", "two"]


@pytest.mark.parametrize(
    "words",
    [
        ("import", "{out}/own.jsonl", "--out", "{out}/own.jsonl"),
        ("import", "{out}/own.rejected.jsonl", "--out", "{out}/own.jsonl"),
        ("split", "{out}/train.jsonl", "--out", "{out}/../" + "{name}"),
    ],
)
def test_no_command_replaces_the_file_that_it_reads(desk, tmp_path, words):
    for name in ("own.jsonl", "own.rejected.jsonl", "train.jsonl"):
        shutil.copy(desk / "good.jsonl", tmp_path / name)
    before = tree(tmp_path)
    ran = run(desk, tmp_path, *(word.replace("{name}", tmp_path.name) for word in words))
    assert ran.code == 2
    assert "must not be what is read, which the command would replace" in ran.err
    assert tree(tmp_path) == before


def test_an_import_without_a_usable_row_leaves_an_older_output_as_it_was(desk, tmp_path):
    (tmp_path / "x.jsonl").write_text("mine")
    ran = run(desk, tmp_path, "import", "{desk}/words.jsonl", "--out", "{out}/x.jsonl")
    assert ran.code == 2
    assert f"Read the reasons in {tmp_path / 'x.rejected.jsonl'}." in ran.err
    assert (tmp_path / "x.jsonl").read_text() == "mine"


def test_score_takes_comparisons_of_any_format_and_leaves_bad_rows_out(desk, tmp_path):
    (tmp_path / "a.csv").write_text("question,first,second,label\nq,good,bad,a\nq,good,,a\n")
    out, files = tmp_path / "x.jsonl", ("--data", "{out}/a.csv", "--data", "{desk}/row.jsonl")
    ran = run(desk, tmp_path, "score", "{desk}/model", *files, "--out", "{out}/x.jsonl", "--column", "prompt=question")
    assert ran.code == 0, ran
    assert f"{tmp_path / 'a.csv'}:3: second must be a response that is not empty" in ran.err
    first, second = (json.loads(line) for line in out.read_text().splitlines())
    assert [response["text"] for response in first["responses"]] == ["good", "bad"]
    assert len(first["rewards"]) == 2
    assert second["prompt"] == "a"
    assert isinstance(second["reward"], float)
    ran = run(desk, tmp_path, "audit", "--from", "{out}/x.jsonl", "--json")
    assert "Traceback" not in ran.err


REFUSES = """{%- for message in messages -%}
{%- if not loop.first and message.role == messages[loop.index0 - 1].role -%}
{{- raise_exception('Conversation roles must alternate') -}}
{%- endif -%}
{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endfor -%}
{{ '<|im_start|>assistant\n' if add_generation_prompt }}"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_conversation_that_the_template_refuses_is_named_by_its_row(desk, tmp_path, workers):
    for name in ("tiny", "model"):
        shutil.copytree(desk / name, tmp_path / name)
        (tmp_path / name / "chat_template.jinja").write_text(REFUSES)
    turns = [{"role": "user", "content": word} for word in ("Hi", "Are you there?")]
    rows = [{"prompt": f"q {i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(40)]
    replies = {
        key: [*turns, {"role": "assistant", "content": word}] for key, word in (("chosen", "a"), ("rejected", "b"))
    }
    (tmp_path / "some.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows[:30], replies, *rows[30:]]))
    commands = {
        "train": ("train", "--base", "{out}/tiny", "--data", "{out}/some.jsonl", *OUT),
        "check": ("check", "{out}/some.jsonl", "--model", "{out}/model"),
        "audit": ("audit", "{out}/model", "--data", "{out}/some.jsonl", "audit.hygiene_rows=1000"),
        "calibrate": ("calibrate", "{out}/model", "--data", "{out}/some.jsonl"),
        "score": ("score", "{out}/model", "--data", "{out}/some.jsonl", "--out", "{out}/x.jsonl", "--workers", workers),
    }
    for verb, words in commands.items() if workers == "1" else [("score", commands["score"])]:
        ran = run(desk, tmp_path, *words)
        line = ran.err.splitlines()[-1]
        assert ran.code == 2, (verb, ran)
        assert line.startswith(
            f"error: {tmp_path / 'some.jsonl'}:31: the chat template must accept the conversation"
        ), line


def test_commands_take_any_known_format_and_several_files(desk, tmp_path):
    def pairs(prompts: str) -> str:
        rows = (f"{prompt},a_good_answer {prompt},a_bad_answer,7" for prompt in prompts)
        return "question,chosen,rejected,ignored\n" + "\n".join(rows) + "\n"

    (tmp_path / "a.csv").write_text(pairs("abcdefgh"))
    (tmp_path / "b.csv").write_text(pairs("ijklmnop"))
    files = ("--data", "{out}/a.csv", "--data", "{out}/b.csv", "--column", "prompt=question", "--json")
    out = ("--out", "{out}/x")
    for words in (
        ("check", "{out}/a.csv", "{out}/b.csv", "--column", "prompt=question", "--json"),
        ("split", "{out}/a.csv", "{out}/b.csv", *out, "split.train=0.8", *files[-3:]),
        ("train", "--base", "{desk}/tiny", *out, *files, "train.max_steps=1"),
        ("calibrate", "{desk}/model", *files, "--out", "{out}/calibrated"),
        ("audit", "{desk}/model", *files, "audit.only=[accuracy]"),
    ):
        ran = run(desk, tmp_path, *words)
        assert ran.code in (0, 1), ran
        assert "Traceback" not in ran.err
        facts = json.loads(ran.out)
        assert words[0] != "train" or facts["comparisons"] == 16
        assert words[0] != "check" or facts["about"]["comparisons"] == "16"


def test_every_scored_response_has_a_line_even_if_they_are_equal(desk, tmp_path):
    ran = run(desk, tmp_path, "score", "{desk}/model", "--prompt", "a", "--response", "b_c", "--response", "b_c")
    assert ran.out.count("b_c") == 2


def test_a_score_option_that_would_be_ignored_is_refused(desk, tmp_path):
    ran = run(desk, tmp_path, "score", "{desk}/model", "--prompt", "a", "--response", "b", *OUT)
    assert_refused(ran, "Give --data FILE with --out FILE, or", tmp_path)


def test_check_truncates_as_the_saved_model_does(tmp_path, tiny_dir):
    save(create_reward_model(ModelOptions(base=str(tiny_dir), max_length=16)), tmp_path / "model")
    count = data.token_counter(ModelOptions(base=str(tmp_path / "model")))
    read = count(as_prompt("w1 " * 40), "w2")
    assert (len(read.ids), read.truncated) == (16, True)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (ppo("--reward", "{desk}/rule.py:raises"), "raises: raised ValueError"),
        (
            ppo("--reward", "{desk}/rule.py:nan"),
            "some prompt must have a finite reward for each of its 1 replies, got none in update ",
        ),
        (ppo("--reward", "{desk}/rule.py:short"), "short: "),
    ],
)
def test_a_reward_that_fails_during_optimization_is_one_line_and_writes_no_policy(desk, tmp_path, words, complaint):
    ran = run(desk, tmp_path, *words)
    assert ran.code == 2
    assert complaint in ran.err.splitlines()[-1]
    assert not (tmp_path / "x" / "policy").exists()


def test_a_part_that_stays_empty_is_said(tmp_path):
    data = tmp_path / "few.jsonl"
    data.write_text('{"prompt": "a", "chosen": "good", "rejected": "bad"}\n')
    ran = guerdon("split", data, "--out", tmp_path / "parts")
    assert ran.code == 0
    empty = [name for name in ("train", "calibrate", "audit") if not (tmp_path / f"parts/{name}.jsonl").read_text()]
    assert len(empty) == 2
    for name in empty:
        assert f"the {name} part is empty: parts are drawn by a hash of the prompt group. Give more prompts" in ran.err


def test_a_file_of_which_nothing_can_be_read_has_no_format(tmp_path):
    data = tmp_path / "python.jsonl"
    data.write_text("{'prompt': 'a', 'chosen': 'b', 'rejected': 'c'}\n")
    ran = guerdon("import", data, "--out", tmp_path / "all.jsonl")
    assert ran.code == 2
    assert "detected" not in ran.err + ran.out
    assert "it is a Python object" in ran.err


@pytest.mark.parametrize("word", ["store", "annotation", "rubric"])
def test_the_help_of_a_word_that_several_commands_start_with_lists_them_with_what_they_do(word):
    ran = guerdon(word, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"Usage: guerdon {word} COMMAND ...")
    lines = [line for line in ran.out.splitlines() if line.startswith(f"  {word} ")]
    assert len(lines) >= 3
    assert all(len(line.split("  ", 2)) == 3 or line.strip().count("  ") for line in lines)
