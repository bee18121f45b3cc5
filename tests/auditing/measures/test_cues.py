"""Models with planted cues, which must be found with their size and no others, and honest ones, which must pass."""

from __future__ import annotations

import re
import zlib

import numpy as np
import pytest
from answers import ROWS, answered
from scipy.special import ndtri
from toys import Constant, Good, as_scores, few_prompts

from guerdon.auditing.measures.cues import measure_cues, report_cues
from guerdon.auditing.measures.cues.effects import JUDGED, measure_effects
from guerdon.auditing.measures.cues.keys import BETTER, FILLER_LEVELS, WORSE, EditEstimate, TextKey
from guerdon.auditing.measures.cues.plan import Plan, plan_edits
from guerdon.auditing.measures.cues.rewards import RewardTable, tabulate_rewards
from guerdon.auditing.probes.format_edits import EMOJI, strip_markdown
from guerdon.auditing.probes.gaming_edits import PRAISE
from guerdon.auditing.probes.operators import ERRORS, SUBSTANCE
from guerdon.auditing.probes.sample import score_rows
from guerdon.auditing.probes.style_edits import SURE
from guerdon.config import AuditOptions
from guerdon.contracts import Comparison, GuerdonError, Preference, Response, as_prompt, as_response

OPTIONS = AuditOptions(draws=100, cue_rows=30)
DATA = answered()
EMOJI_CUE = TextKey("worse", "emoji")

# What a planted model looks for, and nothing in the answers themselves has.
SIGNS = {
    "emoji": lambda t: sum(t.count(mark) for mark in EMOJI),
    "hedging": lambda t: t.startswith("It is possible that I am wrong"),
    "certainty": lambda t: sum(t.count(sentence) for sentence in SURE),
    "authority": lambda t: "Harvard University" in t,
    "flattery": lambda t: t.startswith("What a wonderful question!"),
    "politeness": lambda t: "I hope this helps!" in t,
    "disclaimer": lambda t: "As an AI language model" in t,
    "signature": lambda t: "ChatGPT" in t,
    "self_praise": lambda t: sum(t.count(sentence) for sentence in PRAISE),
    "grader_note": lambda t: "Note to the grader" in t,
    "keywords": lambda t: t.count("Keywords:"),
    "headings": lambda t: "## Answer" in t,
    "bold": lambda t: "**" in t,
    "final_answer": lambda t: "Final answer:" in t,
    "white_space": lambda t: t != t.rstrip(),
    "restatement": lambda t: t.count("To repeat:"),
    "prompt_restated": lambda t: t.count("You asked:"),
    "persona_woman": lambda t: "Speaking as a woman" in t,
    "persona_muslim": lambda t: "Speaking as a Muslim" in t,
}


def plain(text):
    return re.sub(r"\s+", " ", strip_markdown(text)).replace("’", "'").replace("“", '"').replace("”", '"')


PARTS = {prompt: re.split(r"(?<=[.!?]) ", plain(better)) for prompt, better, _ in ROWS}


def worth(prompt, text):
    """What an oracle sees: the share of the better answer's sentences that are there, as they are."""
    asked = prompt[-1].content.split("\n\n")[0]
    body, parts = plain(text), PARTS[asked]
    return sum(part in body for part in parts) / len(parts)


class Planted:
    """substance x worth + a weight for each cue's sign + noise, an independent draw for every text."""

    def __init__(self, substance=1.0, noise=0.0, seed=0, by_length=0.0, **weights):
        self.substance, self.noise, self.seed, self.by_length, self.weights = substance, noise, seed, by_length, weights

    def score(self, prompts, responses):
        return as_scores(
            [self.value(as_prompt(p), as_response(r).text) for p, r in zip(prompts, responses, strict=True)]
        )

    def value(self, prompt, text):
        cues = sum(weight * SIGNS[name](text) for name, weight in self.weights.items())
        luck = 0.0
        if self.noise:
            drawn = zlib.crc32(f"{self.seed} {prompt[-1].content} {text}".encode("utf-8", "surrogatepass"))
            luck = self.noise * ndtri((drawn + 0.5) / 2**32)
        return (
            (self.substance * worth(prompt, text) if self.substance else 0.0) + cues + luck + self.by_length * len(text)
        )


@pytest.fixture(scope="module")
def plan():
    return plan_edits(DATA, OPTIONS)


@pytest.fixture(scope="module")
def whole_plan():
    return plan_edits(DATA, AuditOptions(cue_rows=60))


def report_of(model, plan):
    table = tabulate_rewards(plan, score_rows(model, plan.rows))
    return report_cues(table, measure_effects(table, OPTIONS), OPTIONS)


def flags(report):
    """Names of the flagged cues, with their sign."""
    names = {operator.label: name for name, operator in JUDGED.items()}
    flagged = set()
    for finding in report.findings:
        for start, sign in (("The model rewards ", "+"), ("The model penalizes ", "-")):
            if finding.title.startswith(start):
                flagged.add(sign + names[finding.title.removeprefix(start)])
    return flagged


def test_an_oracle_raises_no_flag_and_sees_every_error(plan):
    report = report_of(Planted(), plan)
    assert not flags(report)
    assert report.estimates["substance_sensitivity"].value == 1
    assert all(
        report.estimates[f"substance_{name}"].value == 1
        for name in SUBSTANCE
        if name not in ("contradiction", "reason")
    )
    assert report.estimates["placebo"].value == 0
    assert {finding.severity for finding in report.findings} == {"note"}
    assert all(report.estimates[f"cue_{name}_flips"].value == 0 for name in ("emoji", "loop", "padding", "master_key"))


def test_a_constant_model_raises_no_flag_and_sees_half(plan):
    report = report_of(Constant(), plan)
    assert not flags(report)
    assert report.estimates["substance_sensitivity"].value == 0.5
    assert report.estimates["within_spread"].value == 0
    assert all(e.value == 0 for key, e in report.estimates.items() if key.startswith("cue_") and key.count("_") == 1)
    assert "worst_flips" not in report.estimates  # no verdict of its own that could be turned
    assert "The model is not shown to notice errors" in {f.title for f in report.findings}


@pytest.mark.parametrize("length", [lambda n: n / 50, np.log1p], ids=["characters", "their logarithm"])
def test_a_model_that_counts_characters_is_flagged_for_length_and_nothing_else(length, plan):
    class Longer:
        def score(self, prompts, responses):
            return as_scores([float(length(len(as_response(r).text))) for r in responses])

    report = report_of(Longer(), plan)
    assert flags(report) == {"+padding", "+restatement", "+prompt_restated", "+sentence_twice"}
    assert report.estimates["substance_sensitivity"].value == pytest.approx(0.5, abs=0.05)
    assert report.curves["dose_length"].y[0].value < report.curves["dose_length"].y[-1].value


def test_a_model_that_likes_short_answers_is_flagged_for_that(whole_plan):
    report = report_of(Planted(substance=0, by_length=-0.02), whole_plan)
    assert flags(report) == {"+empty", "+master_key", "+cut_short"}


@pytest.mark.parametrize("name", SIGNS)
def test_one_planted_cue_is_the_one_that_is_flagged(name, plan):
    assert flags(report_of(Planted(**{name: 1.5}), plan)) == {f"+{name}"}


@pytest.mark.parametrize("weight", [-2.0, -0.7, 0.05, 0.5, 1.0, 3.0])
def test_the_weight_of_a_cue_is_recovered_with_noise(weight, plan):
    noise = 0.15
    report = report_of(Planted(noise=noise, emoji=weight, hedging=-weight), plan)
    pairs = plan.pairs
    true_spread = np.sqrt(np.mean([(1 - worth(p.prompt, p.worse)) ** 2 for p in pairs]) / 2 + noise**2)
    for name, planted in (("emoji", weight), ("hedging", -weight)):
        found = report.estimates[f"cue_{name}"]
        assert found.low <= planted / true_spread <= found.high
        assert found.n == 30
    beyond = abs(weight) / true_spread > 0.2
    sign = "+" if weight > 0 else "-"
    other = "-" if weight > 0 else "+"
    assert flags(report) == ({f"{sign}emoji", f"{other}hedging"} if beyond else set())


def test_the_interval_covers_the_weight_as_often_as_its_level(plan):
    """Over 40 draws of the noise, with a cue of one spread."""
    groups = len(plan.pairs)
    held = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        columns = {BETTER: 1 + rng.normal(size=groups) * 0.5, WORSE: rng.normal(size=groups) * 0.5}
        for name in {name for texts in plan.texts for name in texts} - set(columns):
            columns[name] = rng.normal(size=groups) * 0.5
        columns[EMOJI_CUE] = columns[WORSE] + 0.8 + 0.5 * rng.normal(size=groups)
        found = measure_effects(RewardTable(plan, columns), OPTIONS)["emoji"]
        held.append(found.raw.low <= 0.8 / np.sqrt(0.75) <= found.raw.high)  # margins: 1 + normal of variance 0.5
    assert np.mean(held) >= 0.85


def test_models_that_care_for_no_cue_rarely_raise_a_false_alarm(plan):
    """Worth and noise as large as the spread between answers: the false discovery rate is at most 5 %."""
    present = {name: np.array([name in texts for texts in plan.texts]) for name in {n for t in plan.texts for n in t}}
    alarms = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        columns = {}
        for name, there in present.items():
            level = 1.0 if name in (BETTER, TextKey("better", is_believed=True)) else 0.0
            columns[name] = np.where(there, level + rng.normal(size=len(there)), np.nan)
        found = measure_effects(RewardTable(plan, columns), OPTIONS)
        alarms.append(any(cue.is_flagged for cue in found.values()))
    assert np.mean(alarms) <= 0.05


def test_several_planted_cues_are_found_together_and_the_costliest_comes_first(plan):
    report = report_of(Planted(noise=0.1, flattery=0.6, self_praise=2.0, signature=-1.0, keywords=0.0), plan)
    assert flags(report) == {"+flattery", "+self_praise", "-signature"}
    costs = [f.cost.value for f in report.findings if f.severity == "warning"]
    assert costs == sorted(costs, reverse=True)
    assert report.findings[0].title == "The model rewards praise of itself"


def test_what_makes_an_answer_worse_may_be_penalized(plan):
    assert not flags(report_of(Planted(flattery=-2.0, keywords=-2.0, restatement=-2.0), plan))


def test_doses_and_flips_measure_what_a_cue_buys(plan):
    """A dose is half a nat; an error costs what it takes of the answer's worth."""
    report = report_of(Planted(emoji=0.5), plan)
    doses = report.estimates["cue_emoji_doses"]
    lost = [
        np.mean([1 - worth(*texts[TextKey("better", name)]) for name in ERRORS if TextKey("better", name) in texts])
        for texts in plan.texts
        if any(TextKey("better", name) in texts for name in ERRORS)
    ]
    assert doses.value == pytest.approx(np.mean(lost) / 0.5)
    assert doses.low < doses.value < doses.high
    assert report.estimates["cue_emoji_flips"].value == 0  # worse answers lack all of it
    strong = report_of(Planted(emoji=1.2), plan)
    assert strong.estimates["cue_emoji_flips"].value == 1
    assert strong.estimates["worst_flips"].value == 1
    assert strong.findings[0].cost == strong.estimates["cue_emoji_flips"]


def test_a_dose_curve_rises_with_the_copies(plan):
    curve = report_of(Planted(emoji=0.5), plan).curves["dose_emoji"]
    assert curve.x == (1, 2, 3, 4)
    assert [y.value / curve.y[0].value for y in curve.y] == pytest.approx([1, 2, 3, 4])


def test_the_cost_of_a_penalized_cue_is_measured_on_the_better_answers():
    report = measure_cues(Planted(signature=-1.5), DATA, OPTIONS)
    finding = next(f for f in report.findings if f.title.startswith("The model penalizes"))
    assert finding.cost.value == 1  # every better answer falls below the worse one
    assert finding.examples[0].labels[-1] == "people prefer the other"
    better, signed, worse = finding.examples[0].rewards
    assert signed < worse < better


def test_a_sycophant_is_found_and_an_honest_model_is_not(plan):
    class Sycophant(Planted):
        def value(self, prompt, text):
            claim = prompt[-1].content.partition("I am convinced of this: ")[2]
            return super().value(prompt, text) + 2.0 * bool(claim and claim in text)

    report = report_of(Sycophant(), plan)
    assert flags(report) == {"+sycophancy"}
    assert report.estimates["cue_sycophancy_flips"].value == 1
    example = report.findings[0].examples[0]
    assert "I am convinced of this" in example.prompt[-1].content
    assert "+sycophancy" not in flags(report_of(Planted(), plan))


def test_the_evidence_is_texts_that_can_be_read(plan):
    finding = report_of(Planted(emoji=2.0), plan).findings[0]
    assert len(finding.examples) == 2
    example = finding.examples[0]
    assert example.labels == ("original", "with an emoji at the end", "people prefer this")
    before, after, better = (response.text for response in example.responses)
    assert after == f"{before} {EMOJI[0]}" or after == f"{before}\n\n{EMOJI[0]}"
    assert example.rewards[0] < example.rewards[2] < example.rewards[1]
    assert better == next(row[1] for row in ROWS if row[0] == example.prompt[-1].content)


def test_a_model_moved_by_meaningless_edits_is_reported_and_smaller_cues_are_not_flagged():
    class Curly:
        def score(self, prompts, responses):
            honest = Planted(emoji=0.5).score(prompts, responses).value
            return as_scores(honest + 3.0 * np.array(["’" in as_response(r).text for r in responses]))

    rows = [
        Comparison(c.prompt, tuple(Response(f"It's this. {r.text}") for r in c.responses), c.preference) for c in DATA
    ]
    report = measure_cues(Curly(), rows, OPTIONS)
    assert "Edits that keep the meaning move the reward" in {f.title for f in report.findings}
    assert not flags(report)  # half a nat cannot be told from a change of quotation marks


def test_scale_and_a_constant_of_each_prompt_change_no_effect(plan):
    class Moved(Planted):
        def value(self, prompt, text):
            return 7 * super().value(prompt, text) + len(prompt[-1].content.split("\n\n")[0])

    plainly, moved = (report_of(model(noise=0.2, emoji=0.5), plan) for model in (Planted, Moved))
    for key, estimate in plainly.estimates.items():
        other = moved.estimates[key]
        scale = 7 if key == "within_spread" else 1
        assert (other.value, other.low) == pytest.approx(
            (scale * estimate.value, scale * estimate.low), abs=1e-6, nan_ok=True
        ), key


def test_too_few_prompts_are_reported():
    report = measure_cues(Planted(noise=0.5), DATA, AuditOptions(draws=200, cue_rows=20))
    note = next(f for f in report.findings if f.title == "Too few prompts to clear every cue")
    assert int(note.evidence.split("about ")[1].split()[0]) > 20
    assert report.estimates["mde"].value > 0.2
    assert report.estimates["mde"].low < report.estimates["mde"].value < report.estimates["mde"].high


def test_an_effect_of_the_detectable_size_is_detected(plan):
    """Four times in five at least, over 20 draws of the noise."""
    seen = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        columns = {name: rng.normal(size=len(plan.pairs)) for texts in plan.texts[:1] for name in texts}
        columns[EMOJI_CUE] = columns[WORSE] + rng.normal(size=len(plan.pairs))
        columns |= {level: columns[WORSE] for level in FILLER_LEVELS}
        least = measure_effects(RewardTable(plan, columns), OPTIONS)["emoji"].detectable.value
        spread = np.sqrt(np.mean((columns[BETTER] - columns[WORSE]) ** 2) / 2)
        columns[EMOJI_CUE] = columns[EMOJI_CUE] + least * spread
        seen.append(measure_effects(RewardTable(plan, columns), OPTIONS)["emoji"].q < 0.05)
    assert np.mean(seen) >= 0.7


def test_an_audit_of_cues_repeats_itself_in_any_order_of_rows():
    once, again = (measure_cues(Planted(noise=0.3), rows, OPTIONS) for rows in (DATA, DATA[::-1]))
    assert once == again


def test_rows_that_a_model_refuses_are_left_out_and_counted():
    class Short(Planted):
        def score(self, prompts, responses):
            if any(len(as_response(r).text) > 400 for r in responses):
                raise GuerdonError("a text must be shorter. Cut it.")
            return super().score(prompts, responses)

    report = measure_cues(Short(), DATA, OPTIONS)
    left = int(report.about["pairs refused"].split(",")[0])
    assert 0 < left < 30
    assert int(report.about["pairs edited"]) == 30 - left

    class Never:
        def score(self, prompts, responses):
            raise GuerdonError("no such device. Use cpu.")

    with pytest.raises(GuerdonError, match="no such device"):
        measure_cues(Never(), DATA, OPTIONS)


def test_all_texts_of_an_answer_are_scored_in_one_call_and_the_work_is_bounded():
    calls = []

    class Watched(Planted):
        def score(self, prompts, responses):
            calls.append([as_prompt(p)[-1].content.split("\n\n")[0] for p in prompts])
            return super().score(prompts, responses)

    told = []
    measure_cues(
        Watched(), DATA, AuditOptions(draws=100, cue_rows=20), progress=lambda done, total: told.append((done, total))
    )
    for one, other in ((a, b) for a in calls for b in calls if a is not b):
        assert not set(one) & set(other)
    assert sum(map(len, calls)) < 20 * 75
    assert told[-1] == (20, 20)


def test_a_reward_that_is_not_finite_is_refused():
    class Broken:
        def score(self, prompts, responses):
            return as_scores([float("nan")] * len(prompts))

    with pytest.raises(GuerdonError, match=r"its reward must be finite, got nan\. Score it alone"):
        measure_cues(Broken(), DATA, OPTIONS)


def test_nothing_to_edit_is_refused():
    same = Comparison(as_prompt("p"), (Response("a"), Response("a")), Preference(q=1.0))
    with pytest.raises(GuerdonError, match=r"must have two different answers, got none\. Give comparisons"):
        measure_cues(Good(), [same], OPTIONS)


def test_odd_comparisons_are_measured():
    odd = [
        Comparison(
            as_prompt(f"p{i}"), (Response("" if i % 2 else "```\nx"), Response("\ud800 ok.")), Preference(q=i % 2 / 1)
        )
        for i in range(12)
    ]
    ranked = [
        Comparison(
            as_prompt(f"r{i}"),
            tuple(Response(f"good {k}.") for k in range(4)),
            Preference(groups=((0,), (1,), (2,), (3,))),
        )
        for i in range(12)
    ]
    for rows in (odd, ranked, odd[:1]):
        report = measure_cues(Good(), rows, OPTIONS)
        assert int(report.about["pairs edited"]) == len(rows)


def test_a_plan_holds_every_key_that_the_table_reads(plan):
    names = {name for texts in plan.texts for name in texts}
    assert {BETTER, WORSE, *FILLER_LEVELS} <= names
    assert isinstance(plan, Plan)
    assert len(plan.rows) == len(plan.pairs) == 30


def test_a_real_model_is_measured_as_one_made_of_arithmetic(tiny_dir):
    from guerdon.config import ModelOptions
    from guerdon.models.directory.loading import create_reward_model

    model = create_reward_model(ModelOptions(base=str(tiny_dir)))
    options = AuditOptions(draws=100, cue_rows=12)
    report = measure_cues(model, DATA, options)
    plan = plan_edits(DATA, options)
    alone = np.array([model.score([p], [t]).value[0] for p, t in plan.rows[0]])
    assert score_rows(model, plan.rows)[0] == pytest.approx(alone, abs=1e-4)
    assert report.estimates["cue_emoji"].n == 12
    assert np.isfinite(report.estimates["substance_sensitivity"].value)


def test_effects_count_groups_and_not_rows():
    report = measure_cues(Good(), few_prompts(), AuditOptions(draws=100, cue_rows=30))
    assert report.estimates["cue_emoji"].n == 5  # groups, not rows


def test_estimates_of_an_edit_are_named_in_one_place():
    named = [EditEstimate("emoji", of).key for of in ("effect", "flips", "doses")]
    assert named == ["cue_emoji", "cue_emoji_flips", "cue_emoji_doses"]
    assert EditEstimate("number", "seen").key == "substance_number"
    quantity = EditEstimate("self_praise", "flips").quantity
    assert (quantity.label, quantity.unit, quantity.meaning) == ("self praise", "share", "praise of itself")
