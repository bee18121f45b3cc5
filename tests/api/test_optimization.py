"""guerdon.optimize and guerdon.best_of_n: run folders and reports, judges that must differ, templates that must agree."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from optimization_runs import HELD_OUT, PROMPTS, SMALL, brevity, kindness, read_metrics, record_batches, small_policy

import guerdon
from guerdon import GuerdonError
from guerdon.api.overoptimization import run_report
from guerdon.config import ModelOptions, build
from guerdon.contracts import Response, as_prompt
from guerdon.models.calibrated import CalibratedModel
from guerdon.models.card import Calibration
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.ensemble import Ensemble
from guerdon.models.reward_model import ScalarRewardModel
from guerdon.optimization import loop
from guerdon.optimization.rewards import combined


def test_prompts_that_were_left_out_are_in_the_report(tiny_dir, tmp_path):
    prompts = [*PROMPTS, as_prompt(""), as_prompt(" ")]
    guerdon.optimize(
        small_policy(tiny_dir), kindness, prompts, held_out=HELD_OUT, out=tmp_path, **SMALL | {"check_every": 3}
    )
    assert json.loads((tmp_path / "report.json").read_text())["about"]["prompts left out (empty)"] == "2"


def test_a_finished_pool_of_reward_models_is_drawn_once(tiny_dir, tmp_path, monkeypatch):
    """But not with a function as judge: its state is unknown."""
    model = CalibratedModel(create_reward_model(ModelOptions(base=str(tiny_dir))), Calibration())
    policy, drawn = small_policy(tiny_dir, 0), []
    sample = type(policy).sample_with_seeds
    monkeypatch.setattr(type(policy), "sample_with_seeds", lambda *given: drawn.append(1) or sample(*given))
    options = {"n": 4, "max_tokens": 4}

    def draws(*judges, **more):
        drawn.clear()
        found = guerdon.best_of_n(policy, judges[0], PROMPTS, tmp_path / "a.jsonl", **options, **more)
        return bool(drawn), found

    first = draws(model)
    assert first[0]
    again = draws(model)
    assert not again[0]
    assert again[1].estimates == first[1].estimates
    for judges, more in (([model], {"gold": brevity}), ([kindness], {})):
        with pytest.raises(GuerdonError, match=r"belongs to a run that differs in (reward|gold).*\. Delete it"):
            draws(*judges, **more)
        (tmp_path / "a.jsonl").unlink()
        assert draws(*judges, **more)[0]
        assert draws(*judges, **more)[0]


def test_a_folder_that_another_process_writes_is_refused(tiny_dir, tmp_path):
    script = f"""
        import sys
        from pathlib import Path
        from guerdon.io import run_folder
        with run_folder.RunFolder(Path({str(tmp_path)!r})).lock():
            print(1, flush=True)
            sys.stdin.read()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout.readline() == b"1\n"
        for _ in range(2):
            with pytest.raises(
                GuerdonError, match=r"another process is writing it\. Wait for it, or pass another path"
            ):
                guerdon.optimize(small_policy(tiny_dir), kindness, PROMPTS, held_out=HELD_OUT, out=tmp_path, **SMALL)
        assert list(tmp_path.iterdir()) == []
    finally:
        process.communicate()
    done = guerdon.optimize(small_policy(tiny_dir), kindness, PROMPTS, held_out=HELD_OUT, out=tmp_path, **SMALL)
    assert done.updates == 3


@pytest.mark.parametrize(("scale", "weight", "unit"), [("none", 3.0, 1 / 6), ("reference", 3.0, 0.25)])
def test_a_weight_scales_the_stored_reference_and_the_values(tiny_dir, tmp_path, monkeypatch, scale, weight, unit):
    """A reward of 3 x the model's nats has 3 x their spread; values are in units of the score that is optimized."""
    calibration = Calibration(temperature=0.5, reference_mean=1.0, reference_spread=0.25, provenance={"rows": 9})
    model = CalibratedModel(create_reward_model(ModelOptions(base=str(tiny_dir))), calibration)
    batches, given = record_batches(monkeypatch), []
    build_batch = loop.build_batch
    monkeypatch.setattr(loop, "build_batch", lambda *args: (given.append(args), build_batch(*args))[1])
    config = build({"optimize": {**SMALL, "updates": 1, "value": "reward", "reward_scale": scale, "unfinished": 0.0}})
    guerdon.optimize(
        small_policy(tiny_dir),
        combined({"m": model}, [weight]),
        PROMPTS,
        held_out=HELD_OUT,
        out=tmp_path,
        config=config,
    )
    rollouts, value_model = batches[0].rollouts, given[0][0].value_model
    raw = model.model.score(rollouts.prompts, rollouts.responses).value
    expected = (raw - 1.0) / 0.25 if scale == "reference" else weight * (raw - 1.0) / 0.5
    np.testing.assert_allclose(batches[0].score.numpy(), expected, rtol=1e-4, atol=1e-4)
    assert (value_model.mean, 1 / value_model.scale) == (1.0, pytest.approx(unit))


def test_a_run_folder_loads_as_the_policy_that_it_trained(tiny_dir, tmp_path):
    done = guerdon.optimize(
        small_policy(tiny_dir), kindness, PROMPTS, out=tmp_path, config=build({"optimize": {**SMALL, "lr": 0.02}})
    )
    prompts, replies = [done.policy.encode(PROMPTS[0])], [np.arange(8, 20)]
    with torch.no_grad():
        expected, found = done.policy.forward(prompts, replies), small_policy(tmp_path, 0).forward(prompts, replies)
        torch.testing.assert_close(found.log_prob, expected.log_prob, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(
            small_policy(tiny_dir, 0).forward(prompts, replies).log_prob, expected.log_prob, atol=1e-3
        )


def test_the_report_shows_metrics_even_without_checks(tiny_dir, tmp_path):
    guerdon.optimize(small_policy(tiny_dir), kindness, PROMPTS, out=tmp_path, config=build({"optimize": SMALL}))
    curves = json.loads((tmp_path / "report.json").read_text())["curves"]
    shown = {
        "score", "kl", "entropy", "clipped", "value_clipped", "ratio", "ratio_var", "explained_variance", "length", "truncated",
        "finished", "unique",
    }  # fmt: skip
    assert {f"update_{name}" for name in shown} <= set(curves)
    assert (tmp_path / "report.html").exists()


def test_a_partial_last_line_changes_no_report(tiny_dir, tmp_path):
    config = build({"optimize": {**SMALL, "check_every": 1}})
    guerdon.optimize(small_policy(tiny_dir), kindness, PROMPTS, held_out=HELD_OUT, out=tmp_path, config=config)
    whole = guerdon.measure_overoptimization(tmp_path)
    for name in ("metrics.jsonl", "checks.jsonl"):
        with (tmp_path / name).open("a") as file:
            file.write('{"update": 4, "sc')
    assert guerdon.measure_overoptimization(tmp_path) == whole


def test_a_template_is_compared_with_that_of_every_reward_model(tiny_dir, tmp_path):
    model = CalibratedModel(create_reward_model(ModelOptions(base=str(tiny_dir))), Calibration())
    other = small_policy(tiny_dir, system="be kind")
    for reward in (model, combined({"m": model, "k": kindness})):
        for work in (guerdon.optimize, guerdon.best_of_n):
            more = {"out": tmp_path / "x"} if work is guerdon.optimize else {}
            with pytest.raises(GuerdonError, match=r"must share a system message, .* Set policy\.system=null"):
                work(other, reward, PROMPTS, *([] if more else [tmp_path / "x"]), **more)


@pytest.mark.parametrize("which", ["reward", "gold"])
def test_a_judge_that_fails_at_a_check_stops_neither_the_run_nor_its_report(tiny_dir, tmp_path, which):
    """All NaN at one check, and single ones throughout."""
    calls = iter(range(10**6))

    def sometimes_bad(prompts, responses):
        held_out = prompts[0] in HELD_OUT
        call = next(calls) if held_out else -1
        lost = {0: (1,), 2: range(9)}.get(call, ())
        return [math.nan if i in lost else x for i, x in enumerate(kindness(prompts, responses))]

    judges = (sometimes_bad, brevity) if which == "reward" else (brevity, sometimes_bad)
    config = build({"optimize": {**SMALL, "updates": 4, "check_every": 1, "keep": "best_gold"}})
    done = guerdon.optimize(
        small_policy(tiny_dir), judges[0], PROMPTS, gold=judges[1], held_out=HELD_OUT, out=tmp_path, config=config
    )
    assert done.updates == 4
    assert len(done.checks) == 5
    assert np.isnan(getattr(done.checks[2], "proxy" if which == "reward" else "gold")).all()
    about = guerdon.measure_overoptimization(tmp_path).about
    assert about["checks left out"].startswith("1 of 5")
    assert about["prompts left out"].startswith("1 of 4")
    assert (tmp_path / "report.html").exists()


def test_a_run_without_enough_checks_ends_with_its_curves(tiny_dir, tmp_path):
    config = build({"optimize": {**SMALL, "check_every": 1}})
    given = {"held_out": HELD_OUT, "out": tmp_path, "config": config}
    guerdon.optimize(small_policy(tiny_dir), kindness, PROMPTS, **given)
    (tmp_path / "checks.jsonl").unlink()
    (tmp_path / "excluded.json").write_text("[]")
    report = run_report(tmp_path)
    assert report.findings[0].title == "Whether the reward still holds is not known"
    assert "update_score" in report.curves
    guerdon.optimize(
        small_policy(tiny_dir), kindness, PROMPTS, **given
    )  # it is finished: nothing is learned, a report is written
    assert "must have at least two checks, got 1" in (tmp_path / "report.md").read_text()


def test_texts_that_judges_did_not_see_whole_are_in_metrics_and_report(tiny_dir, tmp_path):
    config = build({"optimize": {**SMALL, "check_every": 1}})
    model = CalibratedModel(
        create_reward_model(ModelOptions(base=str(tiny_dir), max_length=12, truncation="left")), Calibration()
    )
    guerdon.optimize(small_policy(tiny_dir), model, PROMPTS, held_out=HELD_OUT, out=tmp_path, config=config)
    assert read_metrics(tmp_path)[0]["partly_read"] == 1
    assert "A judge saw only part of some texts" in (tmp_path / "report.md").read_text()


def test_a_gold_that_is_part_of_the_reward_is_refused_whatever_its_name_and_weight(tiny_dir, tmp_path):
    model, other = (create_reward_model(ModelOptions(base=str(tiny_dir)), seed=seed) for seed in (0, 1))
    whole = CalibratedModel(model, Calibration())
    wider = CalibratedModel(model, Calibration(temperature=2.0))
    both = Ensemble([whole, CalibratedModel(other, Calibration())])
    cases = [
        (combined({"a": whole}, [2.0]), combined({"b": whole})),
        (whole, wider),
        (combined({"a": whole, "b": kindness}), combined({"k": kindness})),
        (both, CalibratedModel(other, Calibration())),
    ]
    for reward, gold in cases:
        for work in (guerdon.optimize, guerdon.best_of_n):
            more = [] if work is guerdon.optimize else [tmp_path / "x.jsonl"]
            with pytest.raises(GuerdonError, match="gold must share nothing with the reward"):
                work(small_policy(tiny_dir), reward, PROMPTS, *more, gold=gold)
    kept_out = combined({"a": whole, "b": kindness}, [1.0, 0.0])
    assert combined(kindness).in_common(kept_out) is None
    assert combined({"a": whole}).in_common(combined({"b": CalibratedModel(other, Calibration())})) is None


def test_the_name_of_a_reward_changes_no_fingerprint(tiny_dir):
    model = CalibratedModel(create_reward_model(ModelOptions(base=str(tiny_dir))), Calibration())
    assert combined({"./rm": model}).fingerprint == combined({"rm": model}).fingerprint
    assert combined({"rm": model}, [2.0]).fingerprint != combined({"rm": model}).fingerprint


def test_a_template_is_compared_with_that_of_members(tiny_dir, tmp_path):
    model = CalibratedModel(create_reward_model(ModelOptions(base=str(tiny_dir))), Calibration())
    other = small_policy(tiny_dir, system="be kind")
    with pytest.raises(GuerdonError, match=r"must share a system message, .* Set policy\.system=null"):
        guerdon.best_of_n(other, Ensemble([model, model]), PROMPTS, tmp_path / "x.jsonl")


def test_a_gold_judge_reads_conversations_in_its_own_way(tiny_dir, tmp_path):
    """Another system message than the policy and the reward have, or none."""
    reward, gold = (
        CalibratedModel(create_reward_model(ModelOptions(base=str(tiny_dir), system=system), seed=seed), Calibration())
        for seed, system in enumerate(("be kind", "be right"))
    )
    policy = small_policy(tiny_dir, system="be kind")
    guerdon.best_of_n(policy, reward, PROMPTS, tmp_path / "pool.jsonl", gold=gold, n=2, max_tokens=4)
    row = json.loads((tmp_path / "pool.jsonl").read_text("utf-8").splitlines()[0])
    prompt = row["prompt"][0]["content"]
    replies = [Response(reply["text"], finish=reply.get("finish")) for reply in row["responses"]]
    np.testing.assert_allclose(row["gold"], gold.score([prompt] * 2, replies).value, atol=1e-5)
    without = CalibratedModel(ScalarRewardModel(gold.model.network, reward.model.text, gold.model.card), Calibration())
    assert np.abs(np.array(row["gold"]) - without.score([prompt] * 2, replies).value).max() > 1e-3
    config = build({"optimize": {**SMALL, "check_every": 1}})
    done = guerdon.optimize(policy, reward, PROMPTS, gold=gold, held_out=HELD_OUT, config=config)
    assert np.isfinite(done.checks[-1].gold).all()


def test_an_ensemble_has_a_reference_scale_but_starts_no_value_model(tiny_dir, monkeypatch):
    models = [create_reward_model(ModelOptions(base=str(tiny_dir)), seed=seed) for seed in (0, 1)]
    calibration = Calibration(reference_mean=0.5, reference_spread=2.0, provenance={"policy": "toy"})
    both = CalibratedModel(Ensemble([CalibratedModel(model, Calibration()) for model in models]), calibration)
    with pytest.raises(GuerdonError, match="reward must be one model, got an ensemble"):
        guerdon.optimize(small_policy(tiny_dir), both, PROMPTS, **SMALL, value="reward")
    batches = record_batches(monkeypatch)
    guerdon.optimize(small_policy(tiny_dir), both, PROMPTS, **{**SMALL, "reward_scale": "reference", "unfinished": 0.0})
    rollouts = batches[0].rollouts
    expected = both.score(rollouts.prompts, rollouts.responses).value / 2.0
    np.testing.assert_allclose(batches[0].score.numpy(), expected, atol=1e-5)
