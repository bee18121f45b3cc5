"""The benchmark scripts run on a few rows and the tiny model, Guerdon's side and the plain peers; their timings mean nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from forked import run_script

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def smoke(script: str, model: Path, out: Path) -> dict:
    """The cases that `SCRIPT --smoke` writes."""
    return run(script, "--smoke", f"--model={model}", f"--out={out}")["cases"]


def run(script: str, *words: str) -> dict:
    """What `SCRIPT WORDS`, in a process of its own, writes to its --out."""
    ended = run_script(BENCHMARKS / script, *words)
    assert ended.returncode == 0, ended.stderr[-2000:]
    (out,) = (word.removeprefix("--out=") for word in words if word.startswith("--out="))
    return json.loads(Path(out).read_text("utf-8"))


def test_the_training_benchmark_runs(tiny_dir, tmp_path):
    cases = smoke("rm_training.py", tiny_dir, tmp_path / "out.json")
    assert set(cases) == {"fp32/2/full", "fp32/2/lora"}
    for case in cases.values():
        run = case["runs"]["ours fp32"]
        assert len(run["losses"]) == 3
        assert run["share_of_limit"]["median"] > 0
        assert case["settings"]["tokens"]["unique"] < case["settings"]["tokens"]["unshared"]


def test_the_scoring_benchmark_runs_and_its_peers_give_guerdons_scores(tiny_dir, tmp_path):
    cases = smoke("scoring.py", tiny_dir, tmp_path / "out.json")
    assert set(cases) == {"candidates/40/12/fp32", "together/2/fp32", "replies/4/fp32"}
    for case in cases.values():
        assert case["largest_score_difference_from_ours"]["plain, 2 rows, fp32"] < 1e-4
    assert cases["together/2/fp32"]["settings"]["replies_a_set"] == 6
    tokens = cases["together/2/fp32"]["settings"]["tokens"]
    assert tokens["unshared"] >= 2 * tokens["unique"]  # three replies to each prompt


def test_the_benchmark_of_a_long_file_runs_and_its_peers_give_guerdons_scores(tiny_dir, tmp_path):
    case = smoke("scoring_file.py", tiny_dir, tmp_path / "out.json")["fp32"]
    sums = [run["score_sum"] for run in case["runs"].values()]
    assert len(sums) == 3
    assert sums == pytest.approx([sums[0]] * 3, abs=1e-3)
    assert case["long"]["replies"] == 24


def test_the_benchmark_of_intervals_runs(tiny_dir, tmp_path):
    cases = smoke("coverage.py", tiny_dir, tmp_path / "out.json")
    assert set(cases) == {"accuracy", "difference", "majority", "calibration"}
    assert {"ours", "percentile", "bca", "bootstrap_t"} <= set(cases["accuracy"]["rows"][0])


def test_the_benchmark_of_annotators_runs(tiny_dir, tmp_path):
    cases = smoke("annotators.py", tiny_dir, tmp_path / "out.json")
    assert len(cases) == 6
    assert {"majority_accuracy", "dawid_skene_log_loss", "ability_log_loss"} <= set(cases["mixed, every pair 3 votes"])


def test_the_benchmark_of_judge_calls_runs(tiny_dir, tmp_path):
    cases = smoke("judge_client.py", tiny_dir, tmp_path / "out.json")
    assert set(cases) == {"throughput", "replay 20", "replay 40"}
    assert cases["throughput"]["ratio"]["median"] > 0


def test_the_benchmark_of_the_local_judge_runs_and_both_sides_agree(tiny_dir, tmp_path):
    out = tmp_path / "out.json"
    sizes = ["--prompts=1", "--candidates=2", "--words=8", "--turns=10", "--repeats=1"]
    results = run("local_judge.py", f"--model={tiny_dir}", f"--out={out}", *sizes)
    assert all(results[mode]["largest difference, nats"] < 1e-3 for mode in ("score", "pair"))


def test_the_ensemble_benchmark_runs(tiny_dir, tmp_path):
    case = smoke("ensemble.py", tiny_dir, tmp_path / "out.json")["fp32"]
    assert set(case["time_of_several_over_one"]) == {"train", "score"}


def test_the_generation_benchmark_runs_and_both_sides_sample_the_same_tokens(tiny_dir, tmp_path):
    cases = smoke("generation.py", tiny_dir, tmp_path / "out.json")
    assert set(cases) == {"float32/32 prompts", "float32/2 prompts x 16"}
    assert [case["equal_replies"] for case in cases.values()] == [1.0, 1.0]


def test_the_processes_benchmark_runs_and_every_setup_takes_the_same_steps(tiny_dir, tmp_path):
    cases = smoke("processes.py", tiny_dir, tmp_path / "out.json")
    losses = list(cases["train"]["last_loss"].values())
    assert losses == pytest.approx([losses[0]] * 2, abs=1e-5)
    assert len(cases["score"]["pairs_a_second"]) == 2


def test_the_ppo_benchmark_runs_and_evaluates_policies_on_the_tokens_they_sampled(tiny_dir, tmp_path):
    cases = smoke("ppo.py", tiny_dir, tmp_path / "out.json")
    assert set(cases) == {"tiny", "speed/fp32"}
    (curve,) = cases["tiny"]["curves"]["ours"]
    assert [point["update"] for point in curve] == [1, 2]
    assert cases["tiny"]["start"]["kl"] == pytest.approx(0, abs=1e-4)
    assert curve[-1]["kl"] > 0
    runs = cases["speed/fp32"]["runs"]
    assert set(runs) == {"ours head fp32", "ours reward fp32"}
    assert all(set(run["part_seconds"]) == {"draw", "judge", "learn"} for run in runs.values())


def test_the_uncertainty_benchmark_runs(tiny_dir, tmp_path):
    case = smoke("uncertainty.py", tiny_dir, tmp_path / "out.json")["smoke"]
    signals = {key.removeprefix("error_auroc_") for key in case["estimates"] if key.startswith("error_auroc_")}
    assert signals == {"margin", "laplace", "ratio", "shift"}
    assert {"shift_auroc_gibberish", "false_alarms", "aurc_random"} <= set(case["estimates"])
    assert case["measured"]["held_out_groups"] == 25
    assert case["time_of_doubt_over_none"]["median"] > 0


def test_the_gpu_benchmark_runs(tiny_dir, tmp_path):
    cases = smoke("gpu.py", tiny_dir, tmp_path / "out.json")
    assert set(cases) == {"tiny/score", "tiny/full", "tiny/lora"}
    for name in ("16 x (500 + 65)", "16 x (130 + 65)", "replies of pairs", "single replies"):
        case = cases["tiny/score"][name]
        assert case["rewards_differ_by"] < 0.1 * case["rewards_spread"]  # in bfloat16
        assert case["unique_tokens"] <= case["tokens"]
    assert cases["tiny/full"]["runs"]["ours"]["losses"][0] > 0


def test_the_selection_benchmark_runs(tiny_dir, tmp_path):
    case = smoke("selection.py", tiny_dir, tmp_path / "out.json")["smoke"]
    assert set(case["accuracy"]) == {"random", "entropy", "d_optimal", "d_optimal_half"}
    assert all(0 < cell["mean"] < 1 for cells in case["accuracy"].values() for cell in cells)


def test_the_fuzzing_of_importers_runs(tmp_path):
    assert run("fuzz_importers.py", "--inputs=50", f"--out={tmp_path / 'out.json'}")


def test_every_benchmark_runs_here_but_those_that_take_an_hour_or_need_other_repositories():
    modules, takes_an_hour, needs_others = {"measure", "rows", "servers"}, {"hh_accuracy"}, {"contamination"}
    scripts = {path.stem for path in BENCHMARKS.glob("*.py")} - modules - takes_an_hour - needs_others
    assert scripts == {
        "annotation",
        "annotation_load",
        "annotation_scale",
        "annotation_votes",
        "serving",
        "serving_overload",
        "rm_training",
        "scoring",
        "scoring_file",
        "ensemble",
        "generation",
        "processes",
        "ppo",
        "uncertainty",
        "gpu",
        "coverage",
        "selection",
        "annotators",
        "judge_client",
        "local_judge",
        "data",
        "fuzz_importers",
    }


def test_the_benchmark_of_annotation_runs_and_overlap_is_exact(tiny_dir, tmp_path):
    cases = smoke("annotation.py", tiny_dir, tmp_path / "out.json")
    assert set(cases) == {"sqlite", "sqlite as the page", "thinking", "http"}
    for name in ("sqlite", "sqlite as the page", "thinking"):
        assert cases[name]["pairs"] > 0
        assert cases[name]["over_need"] == cases[name]["wrong_counters"] == 0
    assert set(cases["http"]["pairs_per_s"]) == {"guerdon", "guerdon, as its page"}
    assert all(run["pairs"] > 0 for runs in cases["http"]["runs"].values() for run in runs)


def test_many_annotators_at_once_lose_and_double_nothing(tiny_dir, tmp_path):
    (case,) = smoke("annotation_load.py", tiny_dir, tmp_path / "out.json").values()
    assert case["judgments"] > 0
    assert {case[name] for name in ("lost", "without_receipt", "doubled", "over_need", "wrong_counters")} == {0}
    assert set(case["statuses"]) == {"200"}


def test_the_benchmark_of_large_projects_runs(tiny_dir, tmp_path):
    cases = smoke("annotation_scale.py", tiny_dir, tmp_path / "out.json")
    assert set(cases) == {"start", "300 items"}
    assert len(cases["300 items"]["pages_ms"]) == 6


def test_the_benchmark_of_votes_runs_and_no_vote_is_lost_or_bent(tiny_dir, tmp_path):
    case = smoke("annotation_votes.py", tiny_dir, tmp_path / "out.json")["simulated"]
    assert (case["votes_lost"], case["votes_too_many"]) == (0, 0)
    assert case["answers"] == case["votes"] == 120


def test_the_data_benchmark_runs_each_step(tmp_path):
    out = tmp_path / "out.json"
    words = ("--smoke", f"--out={out}", f"--scratch={tmp_path}", "--only=convert,store")
    steps = run("data.py", *words)["cases"]["200"]["steps"]
    assert set(steps) == {"import", "convert", "empty store", "store"}
    assert all("error" not in run and run["peak_bytes"] > 0 for run in steps.values())
    assert list(tmp_path.iterdir()) == [out]


def test_the_serving_benchmark_runs_and_both_servers_give_the_same_rewards(tiny_dir, tmp_path):
    case = smoke("serving.py", tiny_dir, tmp_path / "out.json")["smoke"]
    assert set(case["to_plain"]) == {"pairs", "together", "one by one", "idle"}
    assert all(case[name]["idle"]["median"] > 0 for name in ("guerdon", "plain", "offline"))
    ours = case["guerdon"]
    assert 0 < ours["of it in the model"]["median"] < ours["idle"]["median"]


def test_the_benchmark_of_overload_runs_and_no_answer_is_wrong_or_late(tiny_dir, tmp_path):
    case = smoke("serving_overload.py", tiny_dir, tmp_path / "out.json")["smoke"]
    assert case["answered"] > 0
    assert case["examples"] == []
    assert [case[name] for name in ("wrong", "late", "failed")] == [0, 0, 0]


def test_prompts_without_replies_are_rows_to_generate_from(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import rows

    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Hi"}\n{"prompt": "Ho", "chosen": "a", "rejected": "b"}\n')
    read = rows.read_rows([tmp_path / "prompts.jsonl"])
    assert read == [{"prompt": "Hi", "replies": []}, {"prompt": "Ho", "replies": ["a", "b"]}]
    with pytest.raises(SystemExit, match="--data must hold 1 pairs"):
        rows.pairs(read[:1], None, 1, 100, 0)
