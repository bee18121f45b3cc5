"""measure_alignment_tax on a run folder, a directory and loaded policies."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from taught_policies import HELD, READ, load_local

from guerdon.api.alignment_tax import gain_of_run, measure_alignment_tax
from guerdon.auditing.overoptimization import Trajectory
from guerdon.config import PolicyOptions, TaxOptions, build
from guerdon.contracts import GuerdonError, as_prompt, prompt_digest
from guerdon.io import writers
from guerdon.models.directory.policies import load_policy
from guerdon.optimization.checks import Check, to_row


def a_run(folder, policy_dir, base):
    """A run folder as optimization leaves it: the policy, the options, the checks and their prompts."""
    shutil.copytree(policy_dir, folder / "policy")
    writers.write_config(folder / "config.yaml", build({"policy": {"base": str(base)}}))
    prompts = [as_prompt(f"question {i}") for i in range(12)]
    rows = [{"prompt": [{"role": m.role, "content": m.content} for m in prompt]} for prompt in prompts]
    writers.write_jsonl(folder / "held_out.jsonl", rows)
    for update, gain in ((0, 0.0), (10, 2.0)):
        flat = np.full(12, gain)
        check = Check(
            update, 0.05, tuple(map(prompt_digest, prompts)), flat, flat / 2, flat * 3, np.ones(12),
            np.ones(12, dtype=bool), None, None, ("a",) * 12,
        )  # fmt: skip
        writers.append_jsonl(folder / "checks.jsonl", to_row(check))
    return folder


def warned(report):
    return {finding.title for finding in report.findings if finding.severity == "warning"}


def test_a_gain_is_over_the_first_check_prompt_by_prompt():
    rng = np.random.default_rng(0)
    level = rng.normal(size=30)
    rise = np.array([0.0, 1.0, 3.0])[:, None]
    run = Trajectory(
        updates=(0, 10, 20),
        names=tuple(map(str, range(30))),
        proxy=level + rise,
        kl=rise**2 + 0 * level,
        length=np.ones((3, 30)),
        gold=level - rise,
    )
    last, middle = gain_of_run(run), gain_of_run(run, 10)
    assert (last.proxy.value, last.gold.value, last.kl.value, last.update) == pytest.approx((3.0, -3.0, 9.0, 20))
    assert (middle.proxy.value, middle.gold.value, middle.kl.value, middle.update) == pytest.approx((1, -1, 1, 10))


def test_a_run_folder_gives_its_reference_and_its_gain(taught_dir, noisy_dir, tmp_path):
    run = a_run(tmp_path / "run", noisy_dir, taught_dir)
    texts = tmp_path / "texts.jsonl"
    writers.write_jsonl(texts, [{"text": text} for text in HELD])
    report = measure_alignment_tax(run, texts=texts, out=tmp_path / "out", **READ.model_dump(exclude_unset=True))
    estimates = report.estimates
    assert (estimates["proxy_gain"].value, estimates["gold_gain"].value, estimates["kl"].value) == (2.0, 1.0, 6.0)
    assert report.about["KL from"] == "the run's held-out prompts"
    assert report.about["update"] == "10"
    assert len(warned(report)) == 2
    beside = measure_alignment_tax(noisy_dir, reference=taught_dir, texts=texts, **READ.model_dump(exclude_unset=True))
    assert beside.estimates["tax_text"] == estimates["tax_text"]
    assert "proxy_gain" not in beside.estimates
    table = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))
    grammar = table["results"]["guerdon_minimal_pairs"]
    assert grammar["acc,none"] == pytest.approx(estimates["score_minimal_pairs_after"].value)
    assert grammar["tax,none"] == pytest.approx(estimates["tax_minimal_pairs"].value)


def test_texts_are_rows_or_paragraphs(tmp_path, taught, noisy_dir):
    paragraphs, bad = tmp_path / "held.txt", tmp_path / "bad.jsonl"
    paragraphs.write_text("\n\n".join(HELD), "utf-8")
    bad.write_text('{"words": 1}\n', "utf-8")
    asked = READ.model_copy(update={"tasks": ["text"]}).model_dump(exclude_unset=True)
    report = measure_alignment_tax(load_local(noisy_dir), reference=taught, texts=paragraphs, **asked)
    assert report.estimates["tax_text"].n == len(HELD)
    with pytest.raises(GuerdonError, match=r"bad\.jsonl:1: a held-out text must be a row with text"):
        measure_alignment_tax(load_local(noisy_dir), reference=taught, texts=bad, **asked)


def test_a_policy_on_disk_may_be_compared_with_one_that_is_its_own_reference(taught_dir, noisy_dir):
    options = TaxOptions(tasks=["unrepeated"], max_tokens=4).model_dump(exclude_unset=True)
    policy = load_policy(PolicyOptions(base=str(taught_dir), lora_rank=4), adapters=True)
    together = measure_alignment_tax(policy, also=[noisy_dir], **options)
    alone = measure_alignment_tax(noisy_dir, reference=taught_dir, **options)
    assert together.estimates[f"kl_of_{noisy_dir}"].value == pytest.approx(alone.estimates["kl"].value, rel=1e-4)
    assert together.estimates[f"kl_of_{policy.name}"].value == pytest.approx(0.0, abs=1e-4)
