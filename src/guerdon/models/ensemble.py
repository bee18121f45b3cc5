"""Several reward models as one: their rewards on one scale, a rule that makes one of them, and how far they disagree.

On disk an ensemble is a directory of reward model directories that each load alone everywhere, with `ensemble.json` beside
them. Heads that share a backbone are written as members whose backbone is one file, linked; it is loaded and run once.

Axes: n responses, k members.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import os
import shutil
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch

from guerdon.config import ModelOptions
from guerdon.contracts import (
    GuerdonError,
    Scores,
    as_prompt,
    digest,
    digest_all,
    prompt_digest,
)
from guerdon.formulas.ensemble import common_scale, most_suspect, spread
from guerdon.models.calibrated import CalibratedModel, Calibration, per_prompt_baseline
from guerdon.models.directory import layout
from guerdon.models.engine.modules import unwrap_peft
from guerdon.models.ensemble_rules import EnsembleRule, ensemble_rule, where_finite
from guerdon.models.reward_model import Card, ScalarRewardModel, read_card
from guerdon.models.reward_model import fill as fill_scalar
from guerdon.models.reward_model import load as load_scalar

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from guerdon.contracts import (
        Comparison,
        PromptLike,
        ResponseLike,
        RewardModel,
    )

__all__ = [
    "CommonScale",
    "Ensemble",
    "average_weights",
    "bind",
    "load",
    "recalibrated",
    "save",
    "scale_by_comparisons",
    "scale_by_samples",
]

log = logging.getLogger("guerdon")

VERSION = 1
MEAN = EnsembleRule("mean")
INDEX = "model.safetensors.index.json"
GLANCE = 2**20  # bytes of a backbone's file that are compared where it is no longer one linked file


# ---- The model ---------------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class CommonScale:
    """What puts members on one scale: (reward - center) / spread x unit, the unit being the spreads' geometric mean.

    center, spread: one a member, in its own units; `provenance` says of which rewards. A shift a member is all that can be
    known without reference samples of the very prompt: `Ensemble.centered` takes those.
    """

    center: tuple[float, ...]
    spread: tuple[float, ...]
    provenance: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        """Refuse what is no scale."""
        numbers = (*self.center, *self.spread)
        if len(self.center) != len(self.spread) or not np.isfinite(numbers).all() or min(self.spread, default=1.0) <= 0:
            raise GuerdonError(
                f"ensemble: a scale has a finite center and a spread above 0 a member, got {self.center} and {self.spread}"
            )

    def __call__(self, members: Float[np.ndarray, "k n"]) -> Float[np.ndarray, "k n"]:
        """Members' rewards on one scale."""
        if len(members) != len(self.spread):
            raise GuerdonError(f"ensemble: a scale for {len(self.spread)} members, but there are {len(members)}")
        wide = np.array(self.spread)
        unit = np.exp(np.log(wide).mean())
        scaled: np.ndarray = (members - np.array(self.center)[:, None]) / wide[:, None] * unit
        return scaled


@final
class Ensemble:
    """Reward models, the rule that makes one reward of theirs, and the scale they meet on (None: as they are).

    Fulfills RewardModel. A model that has members of its own, such as heads on one backbone, brings in each of them. `Scores`
    holds the members on one scale, their rule's value, and their standard deviation as std: a lower bound of the error, which
    does not see what all members share.
    """

    def __init__(
        self, models: Sequence[RewardModel], rule: EnsembleRule = MEAN, scale: CommonScale | None = None
    ) -> None:
        self.models, self.rule, self.scale = tuple(models), rule, scale
        if not self.models:
            raise GuerdonError("ensemble: no members; remedy: give reward models")

    @property
    def fingerprint(self) -> str:
        """Changes with whatever changes a score."""
        told = [getattr(model, "fingerprint", type(model).__name__) for model in self.models]
        scale = None if self.scale is None else [self.scale.center, self.scale.spread]
        return digest([told, dataclasses.asdict(self.rule), scale])

    def score(self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Scores:
        """The rule's reward of response i as an answer to prompt i, beside every member's."""
        each = [model.score(prompts, responses) for model in self.models]
        rows = np.concatenate([said.value[None] if said.members is None else said.members for said in each])
        rows = rows if self.scale is None else self.scale(rows)
        suspicions = [said.shift_p for said in each if said.shift_p is not None]
        return Scores(
            value=where_finite(self.rule, rows),
            truncated=np.any([said.truncated for said in each], axis=0),
            std=where_finite(spread, rows),
            members=rows,
            shift_p=most_suspect(np.stack(suspicions)) if suspicions else None,
        )

    def score_pairs(
        self,
        prompts: Sequence[PromptLike],
        responses: Sequence[ResponseLike],
        first: Int[np.ndarray, " p"],
        second: Int[np.ndarray, " p"],
    ) -> tuple[Scores, Float[np.ndarray, " p"] | None]:
        """Rewards, and the spread between the members' margins of responses first[i] and second[i]."""
        scores = self.score(prompts, responses)
        assert scores.members is not None
        return scores, where_finite(spread, scores.members[:, first] - scores.members[:, second])

    def log_odds(
        self, prompts: Sequence[PromptLike], first: Sequence[ResponseLike], second: Sequence[ResponseLike]
    ) -> Float[np.ndarray, " n"]:
        """Nats in favor of the first: a reward model judges by subtraction."""
        scores = self.score([*prompts, *prompts], [*first, *second]).value
        margin: np.ndarray = scores[: len(prompts)] - scores[len(prompts) :]
        return margin

    def centered(self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Ensemble:
        """Members above their own means over reference samples of the same prompt, two or more a prompt.

        What a member adds to all replies to a prompt means nothing, yet decides which member is the worst and looks like
        disagreement; this takes it away. Other prompts are then refused.
        """
        models = [per_prompt_baseline(model, prompts, responses) for model in self.models]
        scale = self.scale and dataclasses.replace(self.scale, center=(0.0,) * len(self.scale.center))
        return Ensemble(models, self.rule, scale)


def scale_by_samples(
    ensemble: Ensemble, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike], name: str = "samples"
) -> Ensemble:
    """The ensemble on the scale of reference samples, several a prompt: each member's mean, and its spread within a prompt."""
    groups = [prompt_digest(as_prompt(prompt)) for prompt in prompts]
    about = {"from": name, "responses": len(responses), "prompts": len(set(groups)), "hash": digest_all(groups)}
    return _scaled(ensemble, prompts, responses, groups, about)


def scale_by_comparisons(ensemble: Ensemble, comparisons: Sequence[Comparison], name: str = "comparisons") -> Ensemble:
    """The ensemble on the scale of the comparisons' margins: whose verdicts play no part, so any held-out ones do."""
    prompts = [comparison.prompt for comparison in comparisons for _ in comparison.responses]
    responses = [response for comparison in comparisons for response in comparison.responses]
    groups = [i for i, comparison in enumerate(comparisons) for _ in comparison.responses]
    hashed = digest_all(comparison.id for comparison in comparisons)
    about = {"from": name, "responses": len(responses), "comparisons": len(comparisons), "hash": hashed}
    return _scaled(ensemble, prompts, responses, groups, about)


def _scaled(
    ensemble: Ensemble,
    prompts: Sequence[PromptLike],
    responses: Sequence[ResponseLike],
    groups: Sequence[Hashable],
    provenance: Mapping[str, object],
) -> Ensemble:
    if len(set(groups)) == len(groups):
        raise GuerdonError(
            "ensemble: no prompt has two responses, so no scale shows; remedy: give two or more a prompt"
        )
    raw = Ensemble(ensemble.models, ensemble.rule).score(prompts, responses).members
    assert raw is not None
    center, wide = common_scale(raw, groups)
    for at in np.flatnonzero(~(wide > 0)):
        raise GuerdonError(
            f"ensemble: the rewards of member {at + 1} do not differ within any prompt (spread {wide[at]}); remedy: leave it out"
        )
    scale = CommonScale(tuple(map(float, center)), tuple(map(float, wide)), provenance)
    return Ensemble(ensemble.models, ensemble.rule, scale)


# ---- On disk -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Manifest:
    """What ensemble.json says: the members' folders, whether they share a backbone, rule, scale, and the calibration of the whole."""

    members: tuple[str, ...]
    shared_backbone: bool = False
    rule: EnsembleRule = MEAN
    scale: CommonScale | None = None
    calibration: Calibration = field(default_factory=Calibration)

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        scale = self.scale and {**dataclasses.asdict(self.scale), "provenance": dict(self.scale.provenance)}
        return {
            "version": VERSION,
            "members": list(self.members),
            "shared_trunk": self.shared_backbone,
            "rule": dataclasses.asdict(self.rule),
            "scale": scale,
            "calibration": self.calibration.as_dict(),
        }

    def write(self, folder: Path) -> None:
        """Write ensemble.json into a directory that is there."""
        (folder / layout.ENSEMBLE).write_text(json.dumps(self.as_dict(), indent=2) + "\n", "utf-8")


def read_manifest(folder: str | Path) -> Manifest:
    """The ensemble.json of a directory."""
    place = Path(folder) / layout.ENSEMBLE
    try:
        found = json.loads(place.read_text("utf-8"))
        if found["version"] != VERSION:
            raise GuerdonError(
                f"{place}: version is {VERSION} here, got {found['version']!r}; remedy: install the Guerdon that wrote it"
            )
        names, scale = tuple(found["members"]), found["scale"]
        if not names or any(name != Path(name).name or name in (".", "..") for name in names):
            raise GuerdonError(f"{place}: members are names of folders beside it, got {names!r:.80}")
        return Manifest(
            names,
            bool(found["shared_trunk"]),
            ensemble_rule(**found["rule"]),
            scale and CommonScale(tuple(scale["center"]), tuple(scale["spread"]), scale["provenance"]),
            Calibration.from_dict(found["calibration"]),
        )
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise GuerdonError(
            f"{place}: is no readable ensemble ({what:.100}); remedy: restore it from where it was saved"
        ) from None


def save(ensemble: Ensemble, folder: str | Path, calibration: Calibration | None = None) -> None:
    """Write the ensemble as a directory of reward models that each load alone everywhere. Whole or not at all.

    A backbone that several heads share is written once and linked into each member, its head beside it in a file of its own.
    """
    sources = [_own(model, at) for at, model in enumerate(ensemble.models, start=1)]
    names = tuple(f"member-{i + 1}" for i in range(sum(model.heads for model, _ in sources)))
    shared = len(sources) == 1 and len(names) > 1
    manifest = Manifest(names, shared, ensemble.rule, ensemble.scale, calibration or Calibration())

    def fill(scratch: Path) -> None:
        places = iter([scratch / name for name in names])
        for model, own in sources:
            _write_members(model, own, [next(places) for _ in range(model.heads)])
        manifest.write(scratch)

    layout.write_directory(Path(folder), fill)


def bind(
    folders: Sequence[str | Path], out: str | Path, like: Ensemble, calibration: Calibration | None = None
) -> None:
    """Write an ensemble of saved models, with rule and scale of `like`. Files are linked where the disk can, else copied."""
    names = tuple(f"member-{i + 1}" for i in range(len(folders)))
    manifest = Manifest(names, False, like.rule, like.scale, calibration or Calibration())

    def fill(scratch: Path) -> None:
        for folder, name in zip(folders, names, strict=True):
            _link_files(Path(folder), scratch / name)
        manifest.write(scratch)

    layout.write_directory(Path(out), fill)


def load(
    folder: str | Path, options: ModelOptions | None = None, *, with_uncertainty: bool = True, batch_tokens: int = 4096
) -> CalibratedModel:
    """A saved ensemble, with the calibration of the whole. A backbone that all members share is loaded, and run, once.

    `with_uncertainty` is as of one model's load: with what was measured of each member's own uncertainty.
    """
    layout.recover(Path(folder))
    manifest = read_manifest(folder)
    places = [Path(folder) / name for name in manifest.members]
    stacked = _stacked(places, options) if manifest.shared_backbone else None
    models = (
        [stacked] if stacked else [load_scalar(place, options, with_uncertainty=with_uncertainty) for place in places]
    )
    for model in models:
        model.batch_tokens = batch_tokens
    scaled = [CalibratedModel(model, model.card.calibration) for model in models]
    return CalibratedModel(Ensemble(scaled, manifest.rule, manifest.scale), manifest.calibration)


def recalibrated(folder: str | Path, calibration: Calibration) -> str:
    """The text of a directory's ensemble.json with another calibration of the whole."""
    manifest = dataclasses.replace(read_manifest(folder), calibration=calibration)
    return json.dumps(manifest.as_dict(), indent=2) + "\n"


def _own(model: Any, number: int) -> tuple[ScalarRewardModel, Calibration]:
    """A member's model and the calibration of its own."""
    inner = model.model if isinstance(model, CalibratedModel) else model
    if not isinstance(inner, ScalarRewardModel):
        raise GuerdonError(
            f"ensemble: member {number} is {type(inner).__name__}, no model of ours; remedy: save it the way it was made"
        )
    return inner, model.calibration if isinstance(model, CalibratedModel) else inner.card.calibration


def _write_members(model: ScalarRewardModel, calibration: Calibration, places: Sequence[Path]) -> None:
    """Each head of a model as a directory of its own."""
    cards = _cards(model, calibration)
    first, *others = places
    first.mkdir()
    if not others:
        member = ScalarRewardModel(model.network, model.text, cards[0], uncertainty=model.uncertainty)
        return fill_scalar(member, first)
    classifier = layout.merged(model.network.classifier)
    name = layout.head_name(classifier)
    rows = {key: value.detach().cpu() for key, value in layout.linear_head(classifier).state_dict().items()}
    with layout.one_head(classifier, 0):
        layout.fill(classifier, model.text, cards[0].as_dict(), first)
    shard = _part_head(first, name)
    for row, place in enumerate(others, start=1):
        _link_files(first, place, but=(shard, "reward.json"))
        _write_tensors({f"{name}.{key}": value[row : row + 1].clone() for key, value in rows.items()}, place / shard)
        layout.write_card(cards[row].as_dict(), place)
    return None


def _cards(model: ScalarRewardModel, calibration: Calibration) -> list[Card]:
    """What reward.json says of each head: its own scores of the stored texts."""
    card = dataclasses.replace(model.card, calibration=calibration)
    if model.heads == 1:
        return [card]
    card = dataclasses.replace(card, uncertainty={})  # it was measured of the mean
    if not card.self_test:
        return [card] * model.heads
    prompts, texts = [prompt for prompt, _, _ in card.self_test], [text for _, text, _ in card.self_test]
    said = model.score(prompts, texts).members
    assert said is not None
    tests = [tuple((p, t, float(v)) for p, t, v in zip(prompts, texts, member, strict=True)) for member in said]
    return [dataclasses.replace(card, self_test=test) for test in tests]


def _part_head(folder: Path, name: str) -> str:
    """Move a saved model's head into a shard of its own, the last, and write the index; returns the shard's name."""
    from safetensors.torch import load_file

    heads: dict[str, torch.Tensor] = {}
    backbones: list[tuple[Path, dict[str, torch.Tensor]]] = []
    for file in sorted(folder.glob("*.safetensors")):
        tensors = load_file(file)
        heads |= {key: tensors.pop(key) for key in list(tensors) if key.startswith(f"{name}.")}
        backbones.append((file, tensors))
    shards = [tensors for _, tensors in backbones if tensors] + [heads]
    for file, _ in backbones:
        file.unlink()
    weights: dict[str, str] = {}
    for at, tensors in enumerate(shards, start=1):
        shard = f"model-{at:05d}-of-{len(shards):05d}.safetensors"
        _write_tensors(tensors, folder / shard)
        weights |= dict.fromkeys(tensors, shard)
    size = sum(value.nbytes for tensors in shards for value in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": weights}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")
    return shard


def _write_tensors(tensors: dict[str, torch.Tensor], file: Path) -> None:
    from safetensors.torch import save_file

    save_file(tensors, file, metadata={"format": "pt"})


def _link_files(source: Path, target: Path, but: Sequence[str] = ()) -> None:
    """The files of one directory in another, new one: the same bytes on the disk where it can, else copies."""
    target.mkdir()
    for file in sorted(source.iterdir()):
        if file.is_file() and file.name not in but:
            try:
                os.link(file.resolve(), target / file.name)
            except OSError:
                shutil.copyfile(file, target / file.name)


def _stacked(places: Sequence[Path], options: ModelOptions | None) -> ScalarRewardModel | None:
    """The members' heads on the first one's backbone; None where backbone or reading of the members is no longer the same."""
    cards = [read_card(place) for place in places]
    alike = [card and {**card.as_dict(), "self_test": None} for card in cards]
    own = any(card and card.uncertainty for card in cards)  # of a head, which the others would not have
    if own or any(other != alike[0] for other in alike[1:]) or not _same_backbone(places):
        log.warning("%s: its members no longer share a backbone; each is loaded and run by itself", places[0].parent)
        return None
    model = load_scalar(places[0], options, with_uncertainty=False)
    classifier = unwrap_peft(model.network.classifier)
    name, head = layout.head_name(classifier), layout.linear_head(classifier)
    rows = {
        key: [layout.stored_tensor(str(place), f"{name}.{key}") for place in places]
        for key in head.state_dict()  # weight, and bias where there is one
    }
    for found in rows.values():
        for place, value in zip(places, found, strict=True):
            if value is None or not torch.isfinite(value).all():
                raise GuerdonError(
                    f"{place}: its head is missing or not finite; remedy: restore it from where it was saved"
                )
    whole = {key: torch.cat(found).to(head.weight) for key, found in rows.items()}  # type: ignore[arg-type]
    layout.set_head(classifier, whole["weight"], whole.get("bias"))
    return model


def _same_backbone(places: Sequence[Path]) -> bool:
    """Whether all members hold the first one's backbone: one linked file, or (after a copy) files of equal size that begin alike."""
    try:
        index = json.loads((places[0] / INDEX).read_text("utf-8"))["weight_map"]
        if any(json.loads((place / INDEX).read_text("utf-8"))["weight_map"] != index for place in places[1:]):
            return False
        backbone = {
            file for key, file in index.items() if not key.startswith(tuple(f"{n}." for n in layout.HEAD_NAMES))
        }
        return all(_same_file(places[0] / file, place / file) for place in places[1:] for file in backbone)
    except (OSError, KeyError, json.JSONDecodeError):
        return False


def _same_file(one: Path, other: Path) -> bool:
    if one.samefile(other):
        return True
    with one.open("rb") as first, other.open("rb") as second:
        return one.stat().st_size == other.stat().st_size and first.read(GLANCE) == second.read(GLANCE)


# ---- One model of their weights ----------------------------------------------------------------------------------


def average_weights(models: Sequence[ScalarRewardModel], shares: Sequence[float] | None = None) -> ScalarRewardModel:
    """Models in, one whose every weight is the mean of theirs, or their mix by `shares` (which sum to 1), out.

    WARM (Ramé et al. 2024, arXiv 2401.12187, eq. 2): of fine-tunings that began at the same weights, head included, it predicts
    as the ensemble does to first order, at the cost of one. Whether they are close enough for that is to be measured
    (`audit.ensemble.measure_weight_averaging`). Not calibrated: each member's temperature was its own. Models that do not match are
    refused by what differs.
    """
    mix = [1 / len(models)] * len(models) if shares is None else list(shares)
    if len(models) < 2 or len(mix) != len(models) or abs(sum(mix) - 1) > 1e-9:
        raise GuerdonError(f"average: takes two models or more and shares that sum to 1, got {len(models)} and {mix}")
    first, *others = models
    for number, other in enumerate(others, start=2):
        _refuse_unlike(first, other, number)
    network = copy.deepcopy(first.network)
    tensors = [dict(model.network.named_parameters()) for model in models]
    with torch.no_grad():
        for name, weight in network.named_parameters():
            total = sum(share * each[name].detach().double().cpu() for share, each in zip(mix, tensors, strict=True))
            weight.copy_(total)  # type: ignore[arg-type]  # in float64: 0.5 a + 0.5 a is a
    ties = [model.card.tie_threshold for model in models]
    tie = None if None in ties else sum(share * each for share, each in zip(mix, ties, strict=True) if each is not None)
    card = dataclasses.replace(
        first.card,
        calibration=Calibration(),
        self_test=(),
        tie_threshold=tie,
        data_hash=digest_all(model.card.data_hash for model in models),
    )
    return ScalarRewardModel(network, first.text, card, autocast=first.autocast, batch_tokens=first.batch_tokens)


def _refuse_unlike(first: ScalarRewardModel, other: ScalarRewardModel, number: int) -> None:
    """Weights can be averaged where they mean the same: one architecture, tokenizer and way of showing a conversation."""
    remedy = "remedy: average fine-tunings of one base, trained with the same model options"
    one, two = (unwrap_peft(model.network.classifier).config for model in (first, other))
    if one.model_type != two.model_type:
        raise GuerdonError(f"average: member {number} is a {two.model_type}, the first a {one.model_type}; {remedy}")
    shapes, theirs = ({n: tuple(p.shape) for n, p in m.network.named_parameters()} for m in (first, other))
    for name in (*shapes, *theirs):
        if shapes.get(name) != theirs.get(name):
            raise GuerdonError(
                f"average: weight {name.removeprefix('classifier.')} of member {number} has shape {theirs.get(name)}, "
                f"of the first {shapes.get(name)}; {remedy}"
            )
    if first.text.tokenizer.get_vocab() != other.text.tokenizer.get_vocab():
        raise GuerdonError(f"average: member {number} has another tokenizer; {remedy}")
    for what in ("template_hash", "read_out", "attributes"):
        mine, its = getattr(first.card, what), getattr(other.card, what)
        if mine != its:
            raise GuerdonError(f"average: member {number} has another {what} ({its}, the first {mine}); {remedy}")
