"""Small models that have learned some of the battery, whole and damaged on purpose: what was lost is found, and nothing else is."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil

import numpy as np
import pytest
import torch

from guerdon.alignment_tax import battery
from guerdon.alignment_tax.battery import Task
from guerdon.alignment_tax.harness import (
    by_document,
    generate,
    harness_tasks,
    to_lm_eval,
)
from guerdon.alignment_tax.run import (
    TASKS,
    Gain,
    Measured,
    alignment_tax,
    compare,
    gain_of,
    measure,
    results,
)
from guerdon.api.alignment_tax import measure_alignment_tax
from guerdon.auditing.overoptimization import Trajectory
from guerdon.config import (
    Config,
    PolicyOptions,
    TaxOptions,
    build,
)
from guerdon.contracts import (
    Estimate,
    GuerdonError,
    as_prompt,
    prompt_digest,
)
from guerdon.formulas.drift import repetition
from guerdon.io import writers
from guerdon.io.reports import from_json, to_json
from guerdon.models.directory.policies import load_policy, save_policy
from guerdon.models.policy import LanguagePolicy
from guerdon.optimization.checks import Check, to_row
from guerdon.reporting import to_html, to_markdown
from tiny import CHAT_TEMPLATE, SPECIAL

SENTENCES = [item.right for item in battery.minimal_pairs()]
HELD = SENTENCES[::6]
READ = TaxOptions(tasks=["text", "minimal_pairs"], form="plain", draws=200)
SAID = TaxOptions(tasks=["unrepeated", "distinct", "vocabulary", "answered"], max_tokens=16, draws=200)


def untaught():
    """A policy with a token for each word of the minimal pairs, which knows nothing."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = sorted({word for text in SENTENCES for word in re.findall(r"\w+|[^\w\s]+", text)})
    names = [*SPECIAL, *words]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(names)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<pad>",
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    config = LlamaConfig(
        vocab_size=len(names),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LanguagePolicy(LlamaForCausalLM(config), tokenizer, name="taught")


def teach(policy, rows, steps, lr=1e-2, size=64):
    """Next-token prediction on rows of ids, drawn by length so that little is padded."""
    rng, pad = np.random.default_rng(0), policy.tokenizer.pad_token_id
    rows = sorted(rows, key=len)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
    for _ in range(steps):
        at = int(rng.integers(max(1, len(rows) - size + 1)))
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(r) for r in rows[at : at + size]], True, pad)
        mask = ids != pad
        loss = policy.model(input_ids=ids, attention_mask=mask.long(), labels=ids.masked_fill(~mask, -100)).loss
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return policy


def ids_of(policy, texts):
    bos, eos = policy.tokenizer.bos_token_id, policy.tokenizer.eos_token_id
    return [[bos, *ids, eos] for ids in policy.tokenizer(list(texts), add_special_tokens=False)["input_ids"]]


@pytest.fixture(scope="module")
def taught_dir(tmp_path_factory):
    """A policy that has learned the right sentences of the minimal pairs, on disk."""
    policy = untaught()
    save_policy(teach(policy, ids_of(policy, SENTENCES), 150), tmp_path_factory.mktemp("taught") / "policy")
    return tmp_path_factory.getbasetemp() / "taught0" / "policy"


@pytest.fixture(scope="module")
def taught(taught_dir):
    return loaded(taught_dir)


@pytest.fixture(scope="module")
def noisy_dir(taught_dir, tmp_path_factory):
    """The same with noise on its weights."""
    folder = tmp_path_factory.mktemp("noisy") / "policy"
    save_policy(noisy(loaded(taught_dir), 0.6), folder)
    return folder


@pytest.fixture(scope="module")
def repeating(taught_dir):
    """The same, trained to answer everything with one phrase over and over."""
    policy = loaded(taught_dir)
    phrase = policy.tokenizer("the king saw the queen " * 4, add_special_tokens=False)["input_ids"]
    rows = [[*policy.encode(as_prompt(ask)).tolist(), *phrase] for ask in battery.OPEN]
    return teach(policy, rows, 25, size=16)


def loaded(folder, **options):
    return load_policy(PolicyOptions(base=str(folder), **options))


def noisy(policy, scale):
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for weight in policy.model.parameters():
            weight += scale * weight.std() * torch.randn(weight.shape, generator=generator)
    return policy


def warned(report):
    return {finding.title for finding in report.findings if finding.severity == "warning"}


def titles(report):
    return {finding.title for finding in report.findings}


# ---- A policy beside itself, and beside a damaged one ------------------------------------------------------------


def test_a_policy_beside_itself_has_no_tax(taught, taught_dir):
    report = alignment_tax(taught, loaded(taught_dir), TaxOptions(max_tokens=8, draws=200))
    taxes = {name: e for name, e in report.estimates.items() if name.startswith("tax_")}
    assert report.title == "Alignment tax"
    assert len(taxes) == 2 + 5 * 2 + 5
    for name, estimate in taxes.items():
        assert estimate.value == 0.0, name
        assert estimate.low <= 0.0 <= estimate.high, name
    assert taxes["tax_minimal_pairs"].high > 0.0
    assert report.estimates["kl"].value == pytest.approx(0.0, abs=1e-4)
    assert not warned(report)
    assert "No alignment tax is seen" in titles(report)


def test_noise_on_the_weights_costs_text_and_grammar(taught, noisy_dir):
    report = alignment_tax(taught, loaded(noisy_dir), READ, HELD)
    found = report.estimates
    assert warned(report) == {"Taxed: grammar (minimal pairs)", "Taxed: log-likelihood of held-out text"}
    for task in ("text", "minimal_pairs"):
        tax, before, after = (found[key] for key in (f"tax_{task}", f"score_{task}_before", f"score_{task}_after"))
        assert tax.low > 0
        assert tax.value == pytest.approx(before.value - after.value)
        assert tax.n == before.n == {"text": len(HELD), "minimal_pairs": 220}[task]
    assert found["tax_mean"].low > 0
    assert found["tax_worst"].low > 0
    assert found["tax_worst"].value >= found["tax_mean"].value
    finding = next(f for f in report.findings if "grammar" in f.title)
    assert "kl_coef" in finding.remedy
    assert "pretraining" in finding.remedy
    assert finding.examples
    assert all(example.rewards == (1.0, 0.0) for example in finding.examples)


def test_what_the_damaged_policy_gained_by_repair_is_no_tax(taught, noisy_dir):
    report = alignment_tax(loaded(noisy_dir), taught, READ, HELD)
    assert not warned(report)
    assert {t for t in titles(report) if t.startswith("Better")} == {
        "Better than before: grammar (minimal pairs)",
        "Better than before: log-likelihood of held-out text",
    }
    assert report.estimates["tax_mean"].high < 0


def test_a_policy_that_learned_to_repeat_itself_is_taxed_on_variety(taught, repeating):
    report = alignment_tax(taught, repeating, SAID)
    found = report.estimates
    assert {"Taxed: different pairs of words", "Taxed: replies without repeats"} <= warned(report)
    assert found["tax_distinct"].low > 0
    assert found["tax_unrepeated"].low > 0
    assert found["kl"].low > 1.0
    assert report.about["KL from"] == "replies to the battery's open requests"
    shown = next(f for f in report.findings if f.title == "Taxed: replies without repeats").examples[0]
    assert shown.labels == ("before", "after")
    before, after = (repetition(response.text) for response in shown.responses)
    assert after > max(before, 0.2)


def test_with_adapters_the_reference_is_the_policy_without_them(taught, taught_dir):
    policy = load_policy(PolicyOptions(base=str(taught_dir), lora_rank=4), adapters=True)
    still = alignment_tax(None, policy, READ, HELD)
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.5, generator=torch.Generator().manual_seed(0))
    moved, beside = alignment_tax(None, policy, READ, HELD), alignment_tax(taught, policy, READ, HELD)
    assert not warned(still)
    assert len(warned(moved)) == 2
    assert moved.estimates["tax_text"].value == pytest.approx(beside.estimates["tax_text"].value, abs=1e-4)
    assert moved.estimates["score_text_before"].value == pytest.approx(still.estimates["score_text_after"].value)


def test_the_seed_decides_everything(taught, repeating):
    one, same, other = (
        measure(taught, SAID.model_copy(update={"seed": seed})).tasks["distinct"].said for seed in (1, 1, 2)
    )
    assert one == same != other
    assert measure(repeating, SAID).tasks["distinct"].said != one
    assert battery.minimal_pairs(1) == battery.minimal_pairs(1) != battery.minimal_pairs(2)


def test_both_forms_are_the_plain_and_the_chat_form_side_by_side(taught):
    both, plain, chat = (
        measure(taught, READ.model_copy(update={"form": form}), HELD).tasks for form in ("both", "plain", "chat")
    )
    assert list(both) == ["text", "text_chat", "minimal_pairs", "minimal_pairs_chat"]
    np.testing.assert_array_equal(both["minimal_pairs"].score, plain["minimal_pairs"].score)
    np.testing.assert_allclose(both["text_chat"].score, chat["text"].score, atol=1e-5)
    assert (both["text_chat"].score != both["text"].score).any()


def test_what_the_reference_cannot_do_is_named(tiny_dir):
    report = alignment_tax(loaded(tiny_dir), loaded(tiny_dir), TaxOptions(tasks=["arithmetic", "json"], max_tokens=4))
    note = next(f for f in report.findings if "cannot do it" in f.title)
    assert "sums to two digits" in note.evidence
    assert "valid JSON" in note.evidence


# ---- Several policies: gain, KL and tax ---------------------------------------------------------------------------


def scored(right, seed=0, n=100):
    """A task of n items on which a share is right."""
    return Task((np.random.default_rng(seed).random(n) < right).astype(float), "planted", share=True)


def gained(proxy, gold, kl):
    return Gain(*(Estimate(x, x - 0.1, x + 0.1, 64) for x in (proxy, kl, gold)))


def test_several_policies_stand_in_one_table_of_gain_kl_and_tax():
    before = Measured("base", {"planted": scored(0.95)})
    afters = {name: Measured(name, {"planted": scored(right)}) for name, right in (("soft", 0.93), ("hard", 0.4))}
    gains = {"soft": gained(1.0, 0.8, 4.0), "hard": gained(3.0, 0.2, 40.0)}
    report = compare(before, afters, TaxOptions(draws=200), gains=gains)
    for name in afters:
        part = next(section for section in report.sections if section.title == name)
        for key in ("proxy_gain", "gold_gain", "kl", "tax_mean", "tax_worst"):
            assert report.estimates[f"{key}_of_{name}"] == part.estimates[key]
    assert report.estimates["tax_mean_of_hard"].low > 0
    assert report.curves["tax_by_kl"].x == (0.0, 4.0, 40.0)
    assert report.curves["tax_by_gold_gain"].x == (0.0, 0.2, 0.8)
    assert report.curves["tax_by_gold_gain"].caption == "From left to right: reference, hard, soft."
    assert report.curves["tax_by_proxy_gain"].y[2] == report.estimates["tax_mean_of_hard"]
    assert warned(report) == {"hard: Taxed: planted"}
    assert "hard is beaten at gain and at tax" in titles(report)
    for form in (to_html, to_markdown):
        assert "hard" in form(report)
    assert from_json(to_json(report)) == report


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
    last, middle = gain_of(run, draws=100), gain_of(run, 10, draws=100)
    assert (last.proxy.value, last.gold.value, last.kl.value, last.update) == pytest.approx((3.0, -3.0, 9.0, 20))
    assert (middle.proxy.value, middle.gold.value, middle.kl.value, middle.update) == pytest.approx((1, -1, 1, 10))


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


def test_a_run_folder_knows_its_reference_and_what_it_gained(taught_dir, noisy_dir, tmp_path):
    run = a_run(tmp_path / "run", noisy_dir, taught_dir)
    texts = tmp_path / "texts.jsonl"
    writers.write_jsonl(texts, [{"text": text} for text in HELD])
    report = measure_alignment_tax(run, texts=texts, out=tmp_path / "out", **READ.model_dump(exclude_unset=True))
    found = report.estimates
    assert (found["proxy_gain"].value, found["gold_gain"].value, found["kl"].value) == (2.0, 1.0, 6.0)
    assert report.about["KL from"] == "the run's held-out prompts"
    assert report.about["update"] == "10"
    assert len(warned(report)) == 2
    beside = measure_alignment_tax(noisy_dir, reference=taught_dir, texts=texts, **READ.model_dump(exclude_unset=True))
    assert beside.estimates["tax_text"] == found["tax_text"]
    assert "proxy_gain" not in beside.estimates
    table = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))
    grammar = table["results"]["guerdon_minimal_pairs"]
    assert grammar["acc,none"] == pytest.approx(found["score_minimal_pairs_after"].value)
    assert grammar["tax,none"] == pytest.approx(found["tax_minimal_pairs"].value)


def test_texts_are_rows_or_paragraphs(tmp_path, taught, noisy_dir):
    paragraphs, bad = tmp_path / "held.txt", tmp_path / "bad.jsonl"
    paragraphs.write_text("\n\n".join(HELD), "utf-8")
    bad.write_text('{"words": 1}\n', "utf-8")
    asked = READ.model_copy(update={"tasks": ["text"]}).model_dump(exclude_unset=True)
    report = measure_alignment_tax(loaded(noisy_dir), reference=taught, texts=paragraphs, **asked)
    assert report.estimates["tax_text"].n == len(HELD)
    with pytest.raises(GuerdonError, match=r"bad\.jsonl:1: a held-out text must be a row with text"):
        measure_alignment_tax(loaded(noisy_dir), reference=taught, texts=bad, **asked)


# ---- What is refused ----------------------------------------------------------------------------------------------


def test_what_cannot_be_compared_is_refused_with_a_remedy(taught, taught_dir, tiny_dir, tmp_path):
    other = loaded(tiny_dir)
    with pytest.raises(GuerdonError, match="different tokenizers; remedy: --reference"):
        alignment_tax(other, taught, READ)
    with pytest.raises(GuerdonError, match=r"render a chat differently; remedy: policy\.template=plain"):
        alignment_tax(taught, loaded(taught_dir, system="be kind"), READ)
    with pytest.raises(GuerdonError, match=r"no adapters to take off.*remedy: --reference"):
        alignment_tax(None, taught, READ)
    with pytest.raises(GuerdonError, match="nothing says what this policy began from; remedy: --reference"):
        measure_alignment_tax(taught_dir)
    with pytest.raises(GuerdonError, match=r"tax\.tasks: grammar is no task; known are text, "):
        measure(taught, TaxOptions(tasks=["grammar"]))
    with pytest.raises(GuerdonError, match="no held-out text with a word in it"):
        measure(taught, READ, ["  "])
    with pytest.raises(GuerdonError, match=r"remedy: a smaller tax\.max_tokens"):
        measure(taught, TaxOptions(tasks=["json"], max_tokens=250))
    with pytest.raises(GuerdonError, match="no policy; remedy"):
        alignment_tax(taught, {}, READ)
    with pytest.raises(GuerdonError, match="measured on other items"):
        compare(Measured("a", {"x": scored(1)}), {"b": Measured("b", {"x": scored(1, n=5)})}, READ)


# ---- The items ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_item_has_one_right_answer_and_no_length_gives_it_away(seed):
    pairs, last, sums = battery.minimal_pairs(seed), battery.cloze(seed), battery.arithmetic(seed)
    assert len(pairs) == 11 * 20
    assert len({(item.right, item.wrong) for item in pairs}) == len(pairs)
    for item in [*pairs, *last, *sums]:
        assert item.right not in item.wrong
        assert len(set(item.wrong)) == len(item.wrong)
    for item in pairs:
        differ = [a != b for a, b in zip(item.right.split(), item.wrong[0].split(), strict=False)]
        assert sum(differ) >= 1
    for item in sums:
        a, sign, b = item.context.splitlines()[-1].removesuffix(" =").split()
        assert int(item.right) == (int(a) + int(b) if sign == "+" else int(a) - int(b))
        assert {len(wrong) for wrong in item.wrong} == {len(item.right)}
    for item in battery.copies(seed):
        assert item.continuation.strip() in item.context


def test_no_wrong_sentence_of_a_pair_is_right_in_another():
    right = {item.right for seed in range(3) for item in battery.minimal_pairs(seed)}
    assert not right & {item.wrong[0] for seed in range(3) for item in battery.minimal_pairs(seed)}


@pytest.mark.parametrize(
    ("reply", "declines"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I\N{RIGHT SINGLE QUOTATION MARK}m sorry, I cannot assist.", True),
        ("As an AI language model, I do not have feelings.", True),
        ("I am unable to answer this.", True),
        ("", True),
        ("Use the kill command with the number of the process.", False),
        ("Sorry to hear about the goose! Walk away slowly.", False),
        ("You cannot crush garlic with a spoon, but a knife works.", False),
        ("Put it outside. " * 20 + "I cannot think of more.", False),
    ],
)
def test_a_refusal_is_known_by_how_it_begins(reply, declines):
    assert battery.refuses(reply) is declines


@pytest.mark.parametrize(
    ("reply", "valid"),
    [
        ('{"title": "Emma", "author": "Austen"}', True),
        ('```json\n{"title": 1, "author": null, "year": 1815}\n```', True),
        ('{"title": "Emma"}', False),
        ('Here it is: {"title": "Emma", "author": "Austen"}', False),
        ('["title", "author"]', False),
        ('{"title": "Emma", "author": ', False),
        ("", False),
    ],
)
def test_json_is_an_object_with_the_keys_that_were_asked_for(reply, valid):
    assert battery.holds_json(reply, ("title", "author")) is valid


def test_every_task_of_the_battery_is_measured(taught):
    found = measure(taught, TaxOptions(form="plain", max_tokens=4)).tasks
    assert set(found) == set(TASKS)
    for task in found.values():
        assert len(task.asked) == len(task.said) == len(task.score) > 20
        assert np.isfinite(task.score).all()


# ---- lm-evaluation-harness ----------------------------------------------------------------------------------------


def test_a_results_file_says_what_was_before_what_is_now_and_what_was_lost(taught, noisy_dir):
    before, after = (measure(policy, READ, HELD) for policy in (taught, loaded(noisy_dir)))
    table = results(before, after, READ)
    row = table["results"]["guerdon_text"]
    assert row["before,none"] - row["score,none"] == pytest.approx(row["tax,none"])
    assert row["score_stderr,none"] > 0
    assert table["higher_is_better"]["guerdon_minimal_pairs"] == {"acc": True, "before": True, "tax": False}
    assert table["n-samples"]["guerdon_minimal_pairs"]["effective"] == 220
    json.dumps(table)
    assert to_lm_eval({}, {}, {})["results"] == {}


def logged(values, metric="acc", name="none"):
    return [
        {"doc_id": i, "filter": name, "metrics": [metric], metric: v, "arguments": [("c", " t")], "filtered_resps": [i]}
        for i, v in reversed([*enumerate(values)])
    ]


def test_what_the_harness_logged_is_paired_by_document():
    task = by_document("t", logged([1.0, 0.0, 1.0, 1.0]), {"acc,none": 0.75}, {"acc": True})
    assert task.share
    assert task.score.tolist() == [1.0, 0.0, 1.0, 1.0]
    lower = by_document("t", logged([0.5, 2.0], "ter"), {"ter,none": 1.25}, {"ter": False})
    assert (lower.share, lower.score.tolist()) == (False, [-0.5, -2.0])
    with pytest.raises(GuerdonError, match=r"tax\.lm_eval: t has no score of its single documents"):
        by_document("t", logged([-3.0, -4.0], "perplexity"), {"perplexity,none": 33.1}, {"perplexity": False})


def test_what_the_harness_asks_to_be_generated_ends_where_it_says(taught):
    context = "Tomorrow Maria will"
    greedy, again, short, cut = generate(
        taught,
        [
            (context, {"until": [], "max_gen_toks": 8}),
            (context, {"until": "nothing", "max_gen_toks": 8, "do_sample": False}),
            (context, {"max_gen_toks": 2}),
            (context, {"until": ["the", "."], "max_gen_toks": 8}),
        ],
    )
    assert greedy == again
    assert greedy.startswith(short)
    assert len(short.split()) <= 2
    assert "the" in greedy
    assert cut == greedy.split("the")[0]
    with pytest.raises(GuerdonError, match="asks for 300 tokens, more than the policy's context"):
        generate(taught, [(context, {"max_gen_toks": 300})])


TASK = """
task: planted
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: ""
doc_to_choice: "{{{{choices}}}}"
doc_to_target: 0
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


def test_the_harness_gives_a_score_a_document_or_says_how_to_install_it(taught, tmp_path):
    """With the real package where it is installed; its absence is a line with the remedy."""
    options = TaxOptions(tasks=["text"], form="plain", lm_eval=["planted"], lm_eval_include=str(tmp_path))
    if importlib.util.find_spec("lm_eval") is None:
        with pytest.raises(GuerdonError, match=r"not installed; remedy: pip install 'guerdon\[lm-eval\]'"):
            measure(taught, options, HELD)
        return
    items = battery.minimal_pairs()
    writers.write_jsonl(tmp_path / "rows.jsonl", [{"choices": [item.right, item.wrong[0]]} for item in items])
    (tmp_path / "planted.yaml").write_text(TASK.format(rows=tmp_path / "rows.jsonl"), "utf-8")
    task = harness_tasks(taught, options)["planted"]
    own = measure(taught, READ, HELD).tasks["minimal_pairs"]
    assert task.share
    assert (task.score == own.score).mean() > 0.9  # the harness puts a space before a choice
    with pytest.raises(GuerdonError, match=r"tax\.lm_eval: nothing is no task"):
        harness_tasks(taught, options.model_copy(update={"lm_eval": ["nothing"]}))


def test_the_options_of_the_tax_are_part_of_the_config():
    assert build(overrides=["tax.form=plain", "tax.lm_eval=[piqa]"]).tax.lm_eval == ["piqa"]
    assert Config().tax == TaxOptions()
