"""The training loop: what it promises about results, resuming, memory options, losses, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from families import save_family
from toys import KIND, UNKIND, liked

from guerdon import (
    Comparison,
    GuerdonError,
    Preference,
    Response,
)
from guerdon.api import training
from guerdon.config import ModelOptions, TrainOptions
from guerdon.contracts import as_prompt
from guerdon.models.directory import layout
from guerdon.models.engine import prefix_tree
from guerdon.models.reward_model import (
    ScalarNetwork,
    create,
    load,
    save,
)
from guerdon.training import fit, loop
from guerdon.training.batches import (
    micro_batches,
    order,
    step_rows,
    tokenize_comparisons,
)
from guerdon.training.objectives import OBJECTIVES

HERE = Path(__file__).parent
FAST = {"lr": 3e-3, "batch_size": 16, "micro_tokens": 1024, "save_every": 0}
SMOOTH = {"lr": 0.02, "eps": 1.0, "clip": 0.0, "schedule": "constant", "warmup": 0.0}  # steps linear in the gradient
PROMPTS, ANSWERS = ["write a review"] * 3, ["a good and great film", "a sad film", "the film was so so"]


def train(base: Path, comparisons, *, model=None, held_out=(), folder=None, **options):
    made = create(ModelOptions(base=str(base), **(model or {})))
    return fit(made, comparisons, TrainOptions(**{**FAST, **options}), held_out=held_out, folder=folder)


def weights(result) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in result.model.network.state_dict().items()}


def farthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


def metrics(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def turned(comparisons):
    """The same, judged the other way round: the more a model learns, the worse it is on these."""
    return [dataclasses.replace(c, preference=Preference(groups=c.preference.groups[::-1]), id="") for c in comparisons]


# ---- Killed and started again --------------------------------------------------------------------------------------

STOPPING = {"epochs": 3.0, "batch_size": 8, "save_every": 3, "eval_every": 2, "patience": 3, "micro_tokens": 512}
MOMENTS = {
    "in step 5, whose metrics are half written": """
        append = run_folder.append_jsonl
        def dying(path, row):
            append(path, row)
            if row["step"] == 5:
                open(path, "a").write('{"step": 5, "held_')
                die()
        run_folder.append_jsonl = dying
    """,
    "between the two renames of a checkpoint": """
        rename = pathlib.Path.rename
        def dying(old, new):
            if str(new).endswith("checkpoint") and (pathlib.Path(new).parent / "checkpoint.old").exists():
                die()
            return rename(old, new)
        pathlib.Path.rename = dying
    """,
    "while the best weights are written": """
        write = checkpoint.save_file
        def dying(tensors, path):
            write(tensors, path)
            if ".best." in str(path):
                die()
        checkpoint.save_file = dying
    """,
}


@pytest.fixture(scope="module")
def uninterrupted(tiny_dir, tmp_path_factory):
    """A run that stops early, and its folder."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    result = train(tiny_dir, liked(32), held_out=turned(liked(16, 1)), folder=folder, **STOPPING)
    assert result.stopped_early
    assert result.steps == 8  # the best at 2, then worse at 4, 6 and 8
    return result, folder


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_goes_on_to_the_same_weights_bit_for_bit(tiny_dir, tmp_path, uninterrupted, moment):
    child = (
        textwrap.dedent(f"""
        import os, pathlib, signal, sys
        sys.path[:0] = {[str(HERE), str(HERE.parent)]!r}
        from test_loop import STOPPING, liked, train, turned
        from guerdon.runtime import checkpoint
        from guerdon.io import run_folder
        die = lambda: os.kill(os.getpid(), signal.SIGKILL)
    """)
        + textwrap.dedent(MOMENTS[moment])
        + textwrap.dedent(f"""
        train({str(tiny_dir)!r}, liked(32), held_out=turned(liked(16, 1)), folder=pathlib.Path({str(tmp_path)!r}), **STOPPING)
    """)
    )
    ran = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=False)
    assert ran.returncode == -9, ran.stderr
    result, folder = uninterrupted
    again = train(tiny_dir, liked(32), held_out=turned(liked(16, 1)), folder=tmp_path, **STOPPING)
    assert farthest(weights(result), weights(again)) == 0.0
    assert (again.steps, again.stopped_early, again.held_out) == (result.steps, True, result.held_out)
    assert metrics(tmp_path) == metrics(folder)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".") or path.name.endswith(".old")]


def test_a_finished_run_is_not_run_again(tiny_dir, uninterrupted):
    result, folder = uninterrupted
    before = (folder / "metrics.jsonl").read_bytes()
    again = train(tiny_dir, liked(32), held_out=turned(liked(16, 1)), folder=folder, **STOPPING)
    assert farthest(weights(result), weights(again)) == 0.0
    assert again.held_out == result.held_out
    assert (folder / "metrics.jsonl").read_bytes() == before


def test_a_folder_changes_nothing(tiny_dir, uninterrupted):
    result, _ = uninterrupted
    again = train(tiny_dir, liked(32), held_out=turned(liked(16, 1)), **STOPPING)
    assert farthest(weights(result), weights(again)) == 0.0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"lr": 1e-3}, "train options"),
        ({"seed": 1}, "train options"),
        ({"comparisons": liked(32, 2)}, "data"),
        ({"comparisons": [dataclasses.replace(c, weight=2.0) for c in liked(32)]}, "data"),
        (
            {
                "comparisons": [
                    dataclasses.replace(c, preference=dataclasses.replace(c.preference, strength=2.0))
                    for c in liked(32)
                ]
            },
            "data",
        ),
        ({"model": {"system": "be kind", "lora_rank": 2}}, "model"),
        ({"model": {"lora_rank": 2, "lora_alpha": 8}}, "model"),
        ({"model": {"lora_rank": 2, "dtype": "bfloat16"}}, "model"),
        ({"model": {"lora_rank": 3}}, "model"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_with_what_differs(tiny_dir, tmp_path, change, named):
    given = {"comparisons": liked(32), "model": {"lora_rank": 2}, "max_steps": 2, "save_every": 1}
    train(tiny_dir, folder=tmp_path, **given)
    with pytest.raises(
        GuerdonError,
        match=rf"checkpoint: belongs to a run that differs in {named}\. Delete it to start over, or pass another --out",
    ):
        train(tiny_dir, folder=tmp_path, **given | change)


def test_options_that_change_no_result_do_not_bar_going_on(tiny_dir, tmp_path):
    given = {"folder": tmp_path, "max_steps": 2}
    train(tiny_dir, liked(32), save_every=1, **given)
    assert train(tiny_dir, liked(32), save_every=2, micro_tokens=64, **given).steps == 2


@pytest.mark.parametrize(("name", "text"), [("state.json", "{"), ("tensors.safetensors", "half")])
def test_a_damaged_checkpoint_is_named(tiny_dir, tmp_path, name, text):
    train(tiny_dir, liked(16), folder=tmp_path, max_steps=1, save_every=1)
    (tmp_path / "checkpoint" / name).write_text(text)
    with pytest.raises(GuerdonError, match=r"checkpoint.*remedy: delete"):
        train(tiny_dir, liked(16), folder=tmp_path, max_steps=1, save_every=1)


# ---- What changes memory and never the result ----------------------------------------------------------------------


def gradients(base: Path, comparisons, model=None, **options) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of one step over all the comparisons."""
    model = create(ModelOptions(base=str(base), **(model or {})))
    chosen = TrainOptions(**{**FAST, **options})
    table = tokenize_comparisons(model.text, comparisons, chosen, model.card.attributes)
    model.network.train()
    rows = np.arange(len(table))
    value = loop._accumulate(model.network, table, rows, chosen, Accelerator(cpu=True), model)
    return value, {n: p.grad for n, p in model.network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("loss", ["bradley_terry", "plackett_luce"])
def test_micro_batches_change_nothing(tiny_dir, loss):
    comparisons = liked(12, k=2 if loss == "bradley_terry" else 4)
    comparisons[3] = dataclasses.replace(comparisons[3], weight=2.5)
    whole, large = gradients(tiny_dir, comparisons, loss=loss, micro_tokens=10**6)
    for tokens in (16, 100, 300):
        value, small = gradients(tiny_dir, comparisons, loss=loss, micro_tokens=tokens)
        assert value == pytest.approx(whole, rel=1e-6)
        assert farthest(large, small) < 1e-5  # of gradients up to 10
    one, many = (
        weights(train(tiny_dir, comparisons, loss=loss, epochs=4.0, micro_tokens=tokens, **SMOOTH))
        for tokens in (10**6, 100)
    )
    assert farthest(one, many) < 1e-6


@pytest.mark.parametrize("more", [{}, {"lora_rank": 2}, {"dtype": "bfloat16"}])
@pytest.mark.parametrize("loss", ["plackett_luce", "rao_kupper"])
def test_a_comparison_larger_than_a_pass_is_learned_from_in_parts(tiny_dir, monkeypatch, loss, more):
    """Of 24 replies, or two long ones: no pass is larger than the budget, and all gradients are those of one pass."""
    comparison = liked(1, k=24 if loss == "plackett_luce" else 2)[0]
    if loss == "rao_kupper":
        long = tuple(dataclasses.replace(r, text=f"{r.text} and so it was" * 9) for r in comparison.responses)
        comparison = dataclasses.replace(comparison, responses=long)
    sizes, cost = [], ScalarNetwork.forward

    def forward(network, texts):
        sizes.append(network.backbone.count_tokens(texts))
        return cost(network, texts)

    monkeypatch.setattr(ScalarNetwork, "forward", forward)
    given = {"loss": loss, "model": more}
    value, large = gradients(tiny_dir, [comparison], micro_tokens=10**6, **given)
    assert len(sizes) == 1
    whole = sizes.pop()
    least = 64 if loss == "plackett_luce" else whole // 2 - 20
    found, small = gradients(tiny_dir, [comparison], micro_tokens=least, **given)
    assert len(sizes) >= 4
    assert max(sizes) < whole * 0.75
    assert found == pytest.approx(value, rel=0.02 if "dtype" in more else 1e-6)
    if "dtype" not in more:
        assert small.keys() == large.keys()
        assert farthest(large, small) < 1e-6 * max(1.0, *(float(g.abs().max()) for g in large.values()))


def test_micro_batches_hold_their_tokens_and_every_row_once(tiny_dir):
    model = create(ModelOptions(base=str(tiny_dir)))
    table = tokenize_comparisons(model.text, liked(40, k=3), TrainOptions(loss="all_pairs"))
    chunks = micro_batches(table, range(40), 300, model.network.backbone)
    assert sorted(row for chunk in chunks for row in chunk) == list(range(40))
    for chunk in chunks:
        assert len(chunk) == 1 or prefix_tree.count_unique_tokens([t for row in chunk for t in table.texts(row)]) <= 300


@pytest.mark.parametrize("loss", ["bradley_terry", "all_pairs"])
def test_a_comparison_of_weight_two_equals_it_standing_twice(tiny_dir, loss):
    one, *others = liked(5, k=2 if loss == "bradley_terry" else 3)
    heavy = [dataclasses.replace(one, weight=2.0), *others]
    given = {"loss": loss, "epochs": 3.0, "micro_tokens": 64, **SMOOTH}
    assert (
        farthest(weights(train(tiny_dir, heavy, **given)), weights(train(tiny_dir, [one, one, *others], **given)))
        < 1e-6
    )


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_gradient_checkpointing_changes_nothing(tiny_dir, lora_rank):
    given = {"model": {"lora_rank": lora_rank}, "epochs": 2.0, **SMOOTH}
    plain, frugal = (weights(train(tiny_dir, liked(16), gradient_checkpointing=on, **given)) for on in (False, True))
    assert farthest(plain, frugal) < 1e-6


# ---- What trains ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "deberta-v2", "modernbert"])
def test_a_forward_pass_in_training_mode_gives_the_same_twice(tmp_path, name):
    own = {"attention_dropout": 0.5} if name in ("llama", "modernbert") else {}
    base = save_family(tmp_path, name, **own)
    model = create(ModelOptions(base=str(base), template="plain", lora_rank=2))
    model.network.train()
    texts = [np.array([4, 5, 6, 7, 8])]
    first, second = (model.network(texts) for _ in range(2))
    assert torch.equal(first, second)
    model.network.eval()
    assert torch.equal(first, model.network(texts))


def test_it_learns_and_says_how_well(tiny_dir):
    result = train(tiny_dir, liked(200), held_out=liked(60, 1))
    assert result.held_out.accuracy.low > 0.8
    assert result.held_out.accuracy.n == 60
    assert result.held_out.loss.value < 0.3
    assert (result.steps, result.dropped, result.stopped_early) == (13, 0, False)


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert"])
def test_adapters_and_the_head_train_and_the_backbone_does_not(tmp_path, monkeypatch, name):
    base = save_family(tmp_path / "base", name)
    options = ModelOptions(base=str(base), template="plain", lora_rank=4)
    before = create(options)
    trainable = {n for n, p in before.network.named_parameters() if p.requires_grad and n != "tie_raw"}
    head = {f"{layout.head_name(layout.unwrapped(before.network.classifier))}"}
    assert all("lora_" in n or n.split(".")[-2] in head for n in trainable)
    assert any(n.split(".")[-2] in head for n in trainable)

    seen = {}
    merge = layout.merged

    def watched(classifier):
        seen["adapters"] = model.score(PROMPTS, ANSWERS).value
        seen["backbone"] = {n: p.clone() for n, p in classifier.named_parameters() if "lora_" not in n}
        return merge(classifier)

    monkeypatch.setattr(layout, "merged", watched)
    model = create(options)
    result = fit(model, liked(32), TrainOptions(**FAST, head_lr=1e-2))
    monkeypatch.undo()
    start = dict(before.network.classifier.named_parameters())
    moved = {n for n, value in seen["backbone"].items() if not torch.equal(value, start[n])}
    assert moved
    assert all(n.split(".")[-2] in head for n in moved)

    np.testing.assert_allclose(result.model.score(PROMPTS, ANSWERS).value, seen["adapters"], atol=1e-5)
    save(result.model, tmp_path / "model")
    assert not (tmp_path / "model/adapter_config.json").exists()
    np.testing.assert_allclose(
        load(tmp_path / "model").score(PROMPTS, ANSWERS).value, result.model.score(PROMPTS, ANSWERS).value, atol=1e-6
    )


def test_an_adapter_for_a_layer_that_is_not_there_names_those_that_are(tiny_dir):
    with pytest.raises(
        GuerdonError, match=r"no linear layer is called 'c_attn'; remedy: choose from down_proj, gate_proj"
    ):
        create(ModelOptions(base=str(tiny_dir), lora_rank=2, lora_targets=["q_proj", "c_attn"]))


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_a_bfloat16_backbone_learns_under_a_float32_head(tiny_dir, monkeypatch, lora_rank):
    seen = {}
    evaluate = loop.evaluate

    def watched(network, *rest):
        seen.update({n: p.dtype for n, p in network.named_parameters()})
        return evaluate(network, *rest)

    monkeypatch.setattr(loop, "evaluate", watched)
    model = {"dtype": "bfloat16", "lora_rank": lora_rank}
    result = train(
        tiny_dir, liked(200), held_out=liked(40, 1), model=model, lr=3e-3 if not lora_rank else 2e-2, epochs=2.0
    )
    assert result.held_out.accuracy.value > 0.9
    by_type = {dtype: {n for n in seen if seen[n] == dtype} for dtype in (torch.bfloat16, torch.float32)}
    assert all("score" in n or "lora_" in n or n == "tie_raw" for n in by_type[torch.float32])
    assert any("score.weight" in n for n in by_type[torch.float32])
    assert any("q_proj" in n for n in by_type[torch.bfloat16])


def test_steps_too_small_for_bfloat16_are_not_lost(tiny_dir):
    network = create(ModelOptions(base=str(tiny_dir), dtype="bfloat16")).network
    norm = network.classifier.model.norm.weight  # all ones, where bfloat16's next number is 2^-7 away
    moving = loop.weights_of(network, TrainOptions(lr=1e-4, schedule="constant", clip=0.0))
    for _ in range(100):
        norm.grad = torch.ones_like(norm)
        moving.step(1.0)
    assert norm.dtype == torch.bfloat16
    np.testing.assert_allclose(norm.detach().float().numpy(), 0.99, atol=2**-8)


@pytest.mark.parametrize("on_disk", [True, False])
def test_stopping_early_brings_the_best_weights_back(tiny_dir, tmp_path, on_disk):
    given = {"held_out": turned(liked(16, 1)), "schedule": "constant", "warmup": 0.0, "eval_every": 1}
    folder = tmp_path if on_disk else None
    stopped = train(tiny_dir, liked(128), patience=2, epochs=4.0, folder=folder, **given)
    assert stopped.stopped_early
    losses = [
        train(tiny_dir, liked(128), max_steps=n, **given).held_out.loss.value for n in range(1, stopped.steps + 1)
    ]
    best = int(np.argmin(losses)) + 1
    assert stopped.steps == best + 2
    assert stopped.held_out.loss.value == losses[best - 1]
    assert farthest(weights(stopped), weights(train(tiny_dir, liked(128), max_steps=best, **given))) == 0.0


def test_the_seed_orders_the_data_and_nothing_else(tiny_dir):
    one, same, other = (weights(train(tiny_dir, liked(48), seed=seed)) for seed in (1, 1, 2))
    assert farthest(one, same) == 0.0
    assert farthest(one, other) > 0.0
    assert sorted(order(10, 0, 0)) == list(range(10))
    assert list(order(10, 0, 0)) != list(order(10, 0, 1))
    steps = [step_rows(10, 4, 0, step) for step in range(6)]
    assert [len(rows) for rows in steps] == [4, 4, 2] * 2
    for epoch in (steps[:3], steps[3:]):
        assert sorted(np.concatenate(epoch)) == list(range(10))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        ("cosine", [0.5, 1, *(0.5 + 0.5 * math.cos(math.pi * i / 8) for i in range(8))]),
    ],
)
def test_the_learning_rate_rises_and_falls_as_named(schedule, expected):
    options = TrainOptions(schedule=schedule, warmup=0.2)
    np.testing.assert_allclose([loop.learning_rate(step, 10, options) for step in range(10)], expected)


def test_the_rate_of_each_step_is_what_the_metrics_say(tiny_dir, tmp_path):
    train(tiny_dir, liked(32), folder=tmp_path, batch_size=8, warmup=0.5, schedule="linear")
    assert [(row["step"], row["epoch"], row["lr"] / FAST["lr"]) for row in metrics(tmp_path)] == [
        (1, 0.25, 0.5),
        (2, 0.5, 1.0),
        (3, 0.75, 1.0),
        (4, 1.0, 0.5),
    ]


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_the_head_has_its_own_rate_and_no_decay(tmp_path, name):
    base = save_family(tmp_path, name)
    network = create(ModelOptions(base=str(base), template="plain")).network
    groups = loop.weights_of(network, TrainOptions(lr=1e-4, head_lr=1e-2, weight_decay=0.1)).adamw.param_groups
    names = {id(p): n for n, p in network.named_parameters()}
    found = {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    last = "classifier.score" if name == "llama" else "classifier.classifier"
    for n, p in network.named_parameters():
        is_head = n.startswith(last) or n == "tie_raw"
        assert found[n] == (1e-2 if is_head else 1e-4, 0.1 if not is_head and p.ndim >= 2 else 0.0), n


def test_clipping_bounds_the_step_and_the_metrics_hold_the_norm_before_it(tiny_dir, tmp_path):
    given = {"max_steps": 1, **SMOOTH}
    free = train(tiny_dir, liked(16), folder=tmp_path / "free", **given)
    cut = train(tiny_dir, liked(16), folder=tmp_path / "cut", **given | {"clip": 1e-3})
    start = {n: v.clone() for n, v in create(ModelOptions(base=str(tiny_dir))).network.state_dict().items()}
    assert metrics(tmp_path / "free")[0]["grad_norm"] == metrics(tmp_path / "cut")[0]["grad_norm"] > 0.1
    assert farthest(start, weights(cut)) < 0.02 * farthest(start, weights(free))


# ---- Every loss ----------------------------------------------------------------------------------------------------


def rankings(num: int, seed: int = 0) -> list[Comparison]:
    """Of 2 to 5 responses; every third has a tie, every fourth a tail that nobody ranked."""
    made = []
    for i in range(num):
        (comparison,) = liked(1, 1000 * seed + i, k=2 + i % 4)
        groups = list(comparison.preference.groups)
        if i % 3 == 0 and len(groups) > 2:
            groups[-2:] = [groups[-2] + groups[-1]]
        if i % 4 == 1:
            groups = groups[:-1]
        made.append(dataclasses.replace(comparison, preference=Preference(groups=tuple(groups)), id=""))
    return made


def with_ties(comparisons):
    """Every third pair gets a better one's words twice over, and the verdict that they are equal."""
    made = list(comparisons)
    for i in range(0, len(made), 3):
        best = made[i].responses[made[i].preference.groups[0][0]].text
        twins = (Response(best), Response(" ".join(reversed(best.split()))))
        made[i] = dataclasses.replace(made[i], responses=twins, preference=Preference(q=0.5), id="")
    return made


def rated(comparisons):
    """Kind and unkind words counted as two ratings, every third of them missing."""
    made = []
    for i, comparison in enumerate(comparisons):
        responses = []
        for j, response in enumerate(comparison.responses):
            words = response.text.split()
            ratings = {"kind": sum(w in KIND for w in words) - 1.5, "unkind": 1.5 - sum(w in UNKIND for w in words)}
            if (i + j) % 3 == 0:
                del ratings["kind" if i % 2 else "unkind"]
            responses.append(dataclasses.replace(response, ratings=ratings))
        made.append(dataclasses.replace(comparison, responses=tuple(responses), id=""))
    return made


DATA = {
    "bradley_terry": liked,
    "rao_kupper": lambda num, seed=0: with_ties(liked(num, seed)),
    "plackett_luce": rankings,
    "all_pairs": rankings,
    "attributes": lambda num, seed=0: rated(liked(num, seed)),
}


@pytest.mark.parametrize("loss", OBJECTIVES)
def test_every_loss_learns_from_its_data(tiny_dir, tmp_path, loss):
    attributes = ["kind", "unkind"] if loss == "attributes" else []
    folder = tmp_path / "run"
    model = training.train(
        DATA[loss](200), held_out=DATA[loss](60, 7), out=folder, base=str(tiny_dir), loss=loss, attributes=attributes,
        **FAST | {"epochs": 2.0},
    )  # fmt: skip
    rows = metrics(folder)
    assert rows[-1]["held_out_accuracy"] > 0.9
    assert rows[-2]["loss"] < 0.6 * rows[0]["loss"]
    card = json.loads((folder / "model/reward.json").read_text("utf-8"))
    assert (card["tie_threshold"] is not None) == (loss == "rao_kupper")
    assert card["attributes"] == attributes
    found = load(folder / "model").score(PROMPTS, ANSWERS)
    np.testing.assert_allclose(found.value, model.score(PROMPTS, ANSWERS).value, atol=1e-6)
    assert found.value[0] > found.value[1]
    assert list(found.attributes) == attributes


def test_the_tie_threshold_grows_with_the_share_of_ties(tiny_dir):
    few, many = (
        train(tiny_dir, data, loss="rao_kupper", epochs=2.0, head_lr=0.05).model.card.tie_threshold
        for data in (liked(60), with_ties(with_ties(liked(60))[1:]))
    )
    assert 0 < few < many


def test_a_margin_asks_for_its_nats(tiny_dir):
    strong = [dataclasses.replace(c, preference=dataclasses.replace(c.preference, strength=3.0)) for c in liked(8)]
    plain, _ = gradients(tiny_dir, strong, centering=0.0)
    asked, _ = gradients(tiny_dir, strong, centering=0.0, margin_scale=1.0)
    unjudged, _ = gradients(tiny_dir, liked(8), centering=0.0, margin_scale=1.0)
    assert asked > plain == unjudged


def test_one_group_held_out_has_no_interval_and_metrics_stay_json(tiny_dir, tmp_path):
    train(tiny_dir, liked(16), held_out=liked(1, 5), folder=tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert rows[-1]["held_out_accuracy"] in (0.0, 1.0)
    assert rows[-1]["held_out_accuracy_low"] is None


def test_a_fraction_of_an_epoch_and_a_number_of_steps_bound_the_run(tiny_dir):
    assert train(tiny_dir, liked(64), epochs=0.5).steps == 2
    assert train(tiny_dir, liked(64), epochs=2.0, max_steps=3).steps == 3


# ---- What is refused -----------------------------------------------------------------------------------------------


def pair(first: str, second: str, prompt: str = "write", **preference) -> Comparison:
    return Comparison(as_prompt(prompt), (Response(first), Response(second)), Preference(**preference or {"q": 1.0}))


TIES = [pair("good", "bad", q=0.5), pair("a film", "the film", groups=((0, 1),))]
THREE_TIED = [Comparison(as_prompt("write"), tuple(map(Response, "abc")), Preference(groups=((0, 1, 2),)))]


@pytest.mark.parametrize(
    ("comparisons", "options", "complaint"),
    [
        ([], {}, "no comparison to train on (0 given, 0 too long); remedy: give data"),
        (TIES, {}, "all 2 comparisons are ties: nothing says which response is better; remedy"),
        (THREE_TIED, {"loss": "plackett_luce"}, "all 1 comparisons are ties: nothing says"),
        ([pair("good", "good"), *liked(3)], {}, "1 of 4 comparisons have identical responses as the model sees them"),
        (liked(4, k=3), {}, "train.loss=bradley_terry takes 2 responses, got 3; remedy: train.loss=plackett_luce"),
        (liked(4, k=3), {"loss": "rao_kupper"}, "train.loss=rao_kupper takes 2 responses, got 3"),
        ([pair("a", "b", q=0.7)], {"loss": "plackett_luce"}, "takes rankings, got a soft label q=0.7; remedy"),
        (liked(4), {"loss": "attributes"}, "nothing is rated for model.attributes=[]; remedy: name rated attributes"),
        ([pair("a", "b", q=0.7)], {"loss": "all_pairs"}, "takes rankings, got a soft label q=0.7; remedy"),
        (liked(4), {"loss": "rao_kupper", "label_smoothing": 0.1}, "train.label_smoothing=0.1: not used by train.loss=rao_k"),
        (liked(4), {"loss": "all_pairs", "margin_scale": 1.0}, "train.margin_scale=1.0: not used by train.loss=all_pairs"),
        (liked(4), {"patience": 2}, "train.patience=2: stopping early needs held-out comparisons; remedy"),
        (liked(16), {"lr": 1e30, "clip": 0.0, "epochs": 5.0}, "remedy: a smaller train.lr (now 1e+30)"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused_in_a_line(tiny_dir, tmp_path, comparisons, options, complaint):
    with pytest.raises(GuerdonError) as refusal:
        train(tiny_dir, comparisons, folder=tmp_path / "run", **options)
    assert complaint in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not list((tmp_path / "run").glob("checkpoint*"))


def test_a_run_that_is_refused_leaves_the_folder_as_it_was(tiny_dir, tmp_path):
    given = {"out": tmp_path / "run", "base": str(tiny_dir), **FAST, "save_every": 1}
    with pytest.raises(GuerdonError, match="are ties"):
        training.train(TIES, **given)
    assert not (tmp_path / "run").exists()
    training.train(liked(16), **given)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    assert set(before) == {"config.yaml", "metrics.jsonl"}
    with pytest.raises(GuerdonError, match="belongs to a run that differs in"):
        training.train(liked(16), **given | {"lr": 1e-5})
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}


def test_too_long_texts_are_refused_with_their_count_or_dropped_or_cut(tiny_dir, caplog):
    data = [*liked(14), pair("good " * 60, "bad " * 50), pair("so " * 80, "bad")]
    with pytest.raises(
        GuerdonError, match=r"max_length=40: 2 of 16 comparisons are longer \(longest \d+ tokens\); remedy"
    ):
        train(tiny_dir, data, model={"max_length": 40})
    assert train(tiny_dir, data, model={"max_length": 40, "truncation": "drop"}).dropped == 2
    assert "2 of 16 comparisons are longer than model.max_length=40 and were dropped" in caplog.text
    assert train(tiny_dir, data, model={"max_length": 40, "truncation": "left"}).dropped == 0
    with pytest.raises(GuerdonError, match=r"no comparison to train on \(1 given, 1 too long\)"):
        train(tiny_dir, data[-1:], model={"max_length": 40, "truncation": "drop"})


def test_responses_that_truncation_makes_identical_are_refused(tiny_dir):
    same_end = pair("good " + "film " * 40, "bad " + "film " * 40)
    with pytest.raises(GuerdonError, match=r"1 of 4 comparisons have identical .*raise model\.max_length"):
        train(tiny_dir, [same_end, *liked(3)], model={"max_length": 32, "truncation": "left"})


@pytest.mark.parametrize("place", ["/proc/nobody/run", "file/run"])
def test_a_folder_that_cannot_be_written_is_named(tiny_dir, tmp_path, place):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(GuerdonError, match=r"cannot write .*run.*\. Pass another --out"):
        train(tiny_dir, liked(4), folder=tmp_path / place)
    with pytest.raises(GuerdonError, match=r"cannot write .*\. Pass another --out"):
        training.train(liked(4), out=tmp_path / place, base=str(tiny_dir))
