"""The loop: rounds on a tiny model, with a judge, with people, killed and resumed."""

from __future__ import annotations

import json
import shutil

import pytest
from shell import guerdon as command
from stopped_steps import run_stopped_before_every_step

import guerdon
from guerdon.api import loop as loops
from guerdon.api import loop_labels
from guerdon.api.loop_report import loop_report
from guerdon.config import LoopOptions, build
from guerdon.contracts import Estimate, Report, Response, Rollouts, as_prompt, prompt_digest
from guerdon.io import readers
from guerdon.io.reports import to_json

WORDS = """
def gold(prompts, responses):
    return [float(len(set(response.text.split()))) for response in responses]

def judge(prompt, first, second):
    return 2.0 * (len(set(first.text.split())) - len(set(second.text.split())))
"""
THINGS = "tea coffee rain snow dogs cats trains books music bread".split()
PROMPTS = [f"write a {kind} line on {thing}" for kind in ("good", "short", "new") for thing in THINGS]


@pytest.fixture(scope="module")
def files(tiny_dir, tmp_path_factory):
    """Prompts, a judge and a gold function; and the options of a loop that takes seconds."""
    folder = tmp_path_factory.mktemp("loop")
    (folder / "words.py").write_text(WORDS)
    (folder / "judge.yaml").write_text(f"kind: python\nfunction: {folder / 'words.py'}:judge\n")
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
    options = {
        "policy": {"base": str(tiny_dir), "lora_rank": 2},
        "model": {"base": str(tiny_dir)},
        "train": {"lr": 3e-3, "batch_size": 16},
        "split": {"train": 0.5, "calibrate": 0.25, "audit": 0.25},
        "optimize": {"updates": 2, "prompts": 4, "max_tokens": 6, "lr": 3e-3, "check_every": 1, "epochs": 1},
        "best_of_n": {"n": 4},
        "loop": {
            "prompts": str(folder / "prompts.jsonl"), "judge": str(folder / "judge.yaml"),
            "gold": f"{folder / 'words.py'}:gold", "rounds": 2, "label_prompts": 20, "audit": False,
        },
    }  # fmt: skip
    return folder, options


def config_of(options, **changes):
    return build(options, {"loop": changes})


@pytest.fixture(scope="module")
def finished(files, tmp_path_factory):
    """A loop of two rounds that nothing stopped."""
    out = tmp_path_factory.mktemp("finished") / "loop"
    result = loops.loop(config_of(files[1]), out, log=lambda line: None)
    return out, result


def test_a_loop_says_over_rounds_what_gold_kl_and_accuracy_came_to(finished):
    out, result = finished
    assert result.waiting is None
    estimates = result.report.estimates
    assert {"gold_0", "gold_1", "gold_2", "gain_1", "gain_2", "kl_1", "kl_2", "fresh_accuracy_2"} == set(estimates)
    outcome = json.loads((out / "rounds/2/outcome.json").read_text("utf-8"))
    assert estimates["gold_2"].value == pytest.approx(sum(outcome["gold"]) / len(outcome["gold"]))
    assert outcome["gold"] == [len(set(text.split())) for text in outcome["texts"]]
    first = json.loads((out / "rounds/1/outcome.json").read_text("utf-8"))
    assert outcome["gold_before"] == first["gold_before"]  # both start from the policy before optimization
    assert estimates["gain_2"].value == pytest.approx(estimates["gold_2"].value - estimates["gold_1"].value)
    assert result.report.about["round 1, labels"].endswith(" by judge, judge: judge")
    assert (out / "report.html").exists()


def test_the_second_round_labels_replies_of_the_first_rounds_policy_to_other_prompts(finished):
    out, _ = finished
    prompts = [{prompt for prompt in readers.read_prompts(out / f"rounds/{i}/pairs.jsonl")} for i in (1, 2)]
    held_out = set(readers.read_prompts(out / "rounds/1/run/held_out.jsonl"))
    assert not prompts[0] & held_out
    assert not prompts[1] & held_out
    assert len(prompts[0] & prompts[1]) < 20
    trained = [len(list(readers.read_comparisons(out / f"rounds/{i}/audit.jsonl"))) for i in (1, 2)]
    assert all(trained)


def test_the_same_call_repeats_no_step_and_more_rounds_may_be_added(files, finished, tmp_path):
    out, result = finished
    copy = tmp_path / "loop"
    shutil.copytree(out, copy)
    lines: list[str] = []
    again = loops.loop(config_of(files[1]), copy, log=lines.append)
    assert again.report.estimates == result.report.estimates
    assert all(line.endswith("already done") for line in lines)
    with pytest.raises(
        guerdon.GuerdonError, match=r"belongs to a run that differs in options \(loop\.replies\)\. Delete"
    ):
        loops.loop(config_of(files[1], replies=6), copy, log=lines.append)
    one_more = loops.loop(config_of(files[1], rounds=3), copy, log=lambda line: None)
    assert one_more.report.estimates["gold_2"] == result.report.estimates["gold_2"]
    assert "gold_3" in one_more.report.estimates


def test_a_newer_version_with_more_options_goes_on_with_the_folder(files, finished, tmp_path):
    copy = tmp_path / "loop"
    shutil.copytree(finished[0], copy)
    state = json.loads((copy / "state.json").read_text("utf-8"))
    del state["identity"]["config"]["train"]["patience"], state["identity"]["config"]["serving"]
    (copy / "state.json").write_text(json.dumps(state))
    again = loops.loop(config_of(files[1]), copy, log=lambda line: None)
    assert again.report.estimates == finished[1].report.estimates
    newer = {**files[1], "train": {**files[1]["train"], "patience": 7}}
    (copy / "state.json").write_text(json.dumps(state))
    with pytest.raises(guerdon.GuerdonError, match=r"differs in options \(train\.patience\)"):
        loops.loop(config_of(newer), copy, log=lambda line: None)


def test_a_loop_that_is_stopped_before_every_step_ends_with_the_same_numbers(files, finished, tmp_path, monkeypatch):
    result, stopped = run_stopped_before_every_step(
        lambda: loops.loop(config_of(files[1]), tmp_path / "loop", log=lambda line: None), monkeypatch
    )
    assert len(stopped) >= 9
    assert result.report.estimates == finished[1].report.estimates
    for name in ("rounds/2/run/policy/model.safetensors", "rounds/2/reward-model/model/model.safetensors"):
        assert (tmp_path / "loop" / name).read_bytes() == (finished[0] / name).read_bytes()


def test_checkpoints_are_compared_on_replies_of_the_newest_policy(finished):
    report = loops.pick_checkpoint(finished[0])
    assert (report.about["a"], report.about["b"]) == ("round 1", "round 2")
    assert report.estimates["accuracy_a"].n == len(
        {c.group for c in readers.read_comparisons(finished[0] / "rounds/2/audit.jsonl")}
    )


def test_best_of_n_with_an_ensemble_keeps_the_policy_and_moves_its_replies(files, tmp_path):
    config = config_of(files[1], method="best_of_n", members=2, rule="min")
    result = loops.loop(config, tmp_path / "loop", log=lambda line: None)
    kl = result.report.estimates["kl_1"].value
    assert kl == pytest.approx(0.6362943611198906)  # log 4 - 3/4
    outcome = json.loads((tmp_path / "loop/rounds/2/outcome.json").read_text("utf-8"))
    model = guerdon.load(tmp_path / "loop/rounds/2/reward-model/model", truncation="left")
    assert len(model.model.models) == 2
    pool = [row for _, row in readers.read_rows(tmp_path / "loop/rounds/2/pool.jsonl")]
    best = [row["responses"][max(range(4), key=row["reward"].__getitem__)] for row in pool]
    assert outcome["texts"] == [reply if isinstance(reply, str) else reply["text"] for reply in best]


def test_people_label_in_a_store_while_the_command_waits(files, tmp_path):
    """A loop without a judge puts the pairs before people and ends with 3; when they have answered, the same command goes on."""
    from guerdon.annotation.answers import Answer
    from guerdon.annotation.assignments import Assignment
    from guerdon.annotation.claiming import claim
    from guerdon.annotation.project import add_annotator, create_project, load_project
    from guerdon.annotation.submitting import submit
    from guerdon.api.store import create_store
    from guerdon.config import AnnotationOptions
    from guerdon.store.database import open_database
    from guerdon.store.items import item_of
    from guerdon.store.location import locate
    from guerdon.store.writer import add_items

    store = tmp_path / "preferences.db"
    create_store(store)
    with open_database(locate(store)) as database:
        options = AnnotationOptions(overlap=0.0, repeat=0.0, adaptive_max=1)
        create_project(database, "loop", options, now=0.0, secret="x")
    own = files[1] | {"loop": files[1]["loop"] | {"judge": None, "rounds": 1}}
    (tmp_path / "loop.yaml").write_text(json.dumps(own))
    words = ("loop", "--config", tmp_path / "loop.yaml", "--store", store, "--out", tmp_path / "run")
    waits = command(*words)
    assert waits.code == 3
    assert "round 1 waits for people: label the project loop of" in waits.err
    pairs = [row for _, row in readers.read_rows(tmp_path / "run/rounds/1/pairs.jsonl")]
    with open_database(
        locate(store)
    ) as database:  # the same pairs, judged outside of the project, are not people's labels here
        others = (
            guerdon.Comparison(
                row["prompt"][0]["content"], tuple(map(Response, row["responses"])), guerdon.Preference(q=1.0)
            )
            for row in pairs
        )
        add_items(database, map(item_of, others))
    assert command(*words).code == 3
    answers = 0
    with open_database(locate(store)) as database:
        project, who = load_project(database, "loop"), add_annotator(database, "ann")
        while isinstance(assignment := claim(project, who, 1.0 + answers), Assignment):
            submit(project, who, assignment.presentation_id, Answer(verdict=-2), f"key {answers}", 1.5 + answers)
            answers += 1
    assert answers == len(pairs)
    done = command(*words, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["about"]["round 1, labels"] == f"{len(pairs)} by people"


def test_no_reward_model_of_any_round_learns_from_a_prompt_of_the_audit_part(finished):
    out, _ = finished
    audited = {c.prompt for i in (1, 2) for c in readers.read_comparisons(out / f"rounds/{i}/audit.jsonl")}
    labeled = {c.prompt for i in (1, 2) for c in readers.read_comparisons(out / f"rounds/{i}/labels.jsonl")}
    config = build(readers.read_config(out / "config.yaml"))
    part_of = loops._parts_of_prompts(loops._prompts(config)[0], config)
    assert audited == {prompt for prompt in labeled if part_of[prompt_digest(prompt)] == "audit"}
    assert {part_of[prompt_digest(prompt)] for prompt in labeled} == {"train", "calibrate", "audit"}


def test_a_prompt_without_gold_is_left_out_of_both_sides_of_a_gain(tmp_path):
    """By hand: gold 1, 2, none before and 3, none, 5 after: the gain is that of the first prompt alone, 2."""
    (tmp_path / "1").mkdir()
    outcome = {
        "prompts": ["a", "b", "c"],
        "texts_before": [""] * 3,
        "texts": [""] * 3,
        "proxy": [0.0] * 3,
        "kl": [1.0, 2.0, 3.0],
    }
    outcome |= {"gold_before": [1.0, 2.0, None], "gold": [3.0, None, 5.0]}
    (tmp_path / "1/outcome.json").write_text(json.dumps(outcome))
    estimates = loop_report([tmp_path / "1"], {}, LoopOptions()).estimates
    assert (estimates["gain_1"].value, estimates["gain_1"].n) == (2.0, 1)
    assert (estimates["gold_0"].value, estimates["gold_1"].value, estimates["kl_1"].value) == (1.5, 4.0, 2.0)


def test_a_loop_says_in_one_line_what_it_lacks(files, tmp_path):
    _, options = files
    for change, line in (
        ({"prompts": None}, "loop.prompts must be a file of prompts"),
        ({"judge": None}, "loop.judge must be given where no loop.store is"),
        ({"gold": None, "stop_when_flat": True}, "loop.gold must be given with loop.stop_when_flat=true"),
        ({"replies": 3}, "loop.replies must be a multiple of 2"),
    ):
        with pytest.raises(guerdon.GuerdonError, match=line):
            loops.loop(config_of(options, **change), tmp_path / "loop")
    for stage, line in (
        ({"optimize": {"check_every": 0}}, r"optimize\.check_every must be above 0 in a loop, .* got 0\. Set it\."),
        ({"optimize": {"baseline": "group"}}, r"optimize\.baseline must be value with loop\.method=ppo, got 'group'\."),
        ({"loop": {"method": "rloo"}}, r"optimize\.samples"),
    ):
        with pytest.raises(guerdon.GuerdonError, match=line):
            loops.loop(build(options, stage), tmp_path / "loop")
    (tmp_path / "tools.jsonl").write_text(
        '{"prompt": "p", "tools": [{"name": "f", "description": "d", "parameters": {}}]}\n' * 1
    )
    for change, line in (
        ({"prompts": str(tmp_path / "tools.jsonl")}, r"tools\.jsonl:1: tools must be left out in a loop, got 1\."),
        ({"prompts": "none.jsonl"}, r"none\.jsonl: no such file"),
        (
            {"store": "none.db"},
            r"none\.db: no such store\. Create it with `guerdon annotation init none\.db --project NAME`\.",
        ),
        ({"judge": "none.yaml"}, r"none\.yaml: no such file"),
        ({"gold": "no-such-model"}, r"no-such-model: no such directory"),
        ({"gold": "none.py:gold"}, r"none\.py: must be a readable Python file"),
    ):
        with pytest.raises(guerdon.GuerdonError, match=line):
            loops.loop(config_of(options, **change), tmp_path / "loop")
    assert not (tmp_path / "loop").exists()
    ran = command("loop", "--out", tmp_path / "none", "--pick-checkpoint")
    assert ran.code == 2
    assert "must have two reward models or more and labels of a round" in ran.err
    ran = command("loop", "--out", tmp_path / "none", "--pick-checkpoint", "--gold", "other")
    assert (ran.code, "--pick-checkpoint must come without --gold, got both." in ran.err) == (2, True)
    assert not (tmp_path / "none").exists()


def test_pairs_are_of_different_replies_each_in_one_pair():
    prompt = as_prompt("say")
    rollouts = Rollouts((prompt,) * 6, tuple(map(Response, ("a", "b", "c", "c", "", "d"))), samples=6)
    assert [row["responses"] for row in loop_labels.pairs_of(rollouts)] == [["a", "b"]]


def test_the_page_shows_replies_round_by_round(finished):
    page = (finished[0] / "report.html").read_text("utf-8")
    assert "round 2" in page
    assert "gold over rounds" in page


def test_the_report_names_a_reward_model_like_a_coin_and_a_round_that_made_replies_worse(tmp_path):
    """Gold falls by 1 on each of 20 prompts; 13 of 20 labels in order is within chance, 95 of 100 is not."""
    for number, interval in ((1, (0.65, 0.43, 0.82, 20)), (2, (0.95, 0.89, 0.98, 100))):
        folder = tmp_path / str(number)
        (folder / "audit").mkdir(parents=True)
        accuracy = Report("a", estimates={"accuracy": Estimate(*interval)})
        (folder / "audit/report.json").write_text(json.dumps(to_json(accuracy)))
        gold = {"gold_before": [2.0] * 20, "gold": [2.0 - number] * 20, "kl": [1.0] * 20, "proxy": [0.0] * 20}
        rows = {"prompts": list(map(str, range(20))), "texts_before": [""] * 20, "texts": [""] * 20}
        (folder / "outcome.json").write_text(json.dumps(gold | rows))
    report = loop_report([tmp_path / "1", tmp_path / "2"], {"round 2: fresh": {"seconds": 3.0}}, LoopOptions())
    coins = [finding.title for finding in report.findings if "coin" in finding.title]
    assert coins == ["The reward model of round 1 is not shown to be better than a coin"]
    assert report.summary == "Round 2 made replies worse: another one of the same kind does not pay"
    assert report.examples[0].labels == ("before, gold", "round 1, gold", "round 2, gold")
    assert report.about["seconds to measure on fresh replies"] == "3"
    assert report.quantities["gold_0"].meaning == "of the policy before optimization, on the same prompts"
