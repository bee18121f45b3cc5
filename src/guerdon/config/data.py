"""Options of data: import, convert, check, inspect, split, aggregate, select."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from guerdon.config.base import Options, Seed
from guerdon.errors import GuerdonError

Attribute = Literal["helpfulness", "correctness", "coherence", "complexity", "verbosity"]
_WEIGHTS: dict[Attribute, float] = {
    "helpfulness": 0.65, "correctness": 0.8, "coherence": 0.45, "complexity": 0.55, "verbosity": -0.4,
}  # fmt: skip
FORMAT_OPTIONS = {
    "attribute_weights": ("helpsteer2",),
    "ultrafeedback_score": ("ultrafeedback",),
    "shp_score_ratio": ("shp",),
    "shp_pairs_per_post": ("shp",),
}


class ImportOptions(Options):
    """Turn a file of judgments into comparisons."""

    format: str = Field(
        "auto",
        description="Format of the source, as listed in docs/formats.md; auto looks at the first rows.",
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Which source column holds what, as ours=theirs: prompt, first, second, label, chosen, rejected, ...",
    )
    label_means: Literal["first", "index", "probability"] | None = Field(
        None,
        description="What numbers as labels mean, where the file leaves it open: the first is better if they are 1 (first), "
        "if they are 0 (index), or a P(the first is better).",
    )
    judgments: Literal["together", "each"] = Field(
        "together",
        description="Several judgments of one row are read as one comparison with a soft label and the counts (together), or as "
        "one comparison for each, with its annotator, strength and reason (each).",
    )
    attribute_weights: dict[Attribute, float] = Field(
        default_factory=lambda: dict(_WEIGHTS),
        description="HelpSteer2: what a point of each attribute is worth when two responses are compared; by default the "
        "weights of NVIDIA's 70B reward model.",
    )
    ultrafeedback_score: Literal["aspects", "overall"] = Field(
        "aspects",
        description="UltraFeedback: rank by the mean of the rated aspects, or by overall_score, which "
        "is 10 for many bad responses in files from before December 29, 2023.",
    )
    shp_score_ratio: float = Field(
        1.0,
        ge=1,
        description="SHP: set rows aside whose score_ratio is lower; its authors trained on those of 2 or more.",
    )
    shp_pairs_per_post: int | None = Field(
        None, ge=1, description="SHP: set rows aside beyond this number for a post; its authors trained on at most 5."
    )
    strict: bool = Field(False, description="Stop at the first bad row instead of setting it aside.")
    hub_split: str = Field(
        "train", description="Split to read when the source is a data set on the hub or a folder of save_to_disk."
    )
    hub_config: str | None = Field(
        None, description="Configuration to read of a data set on the hub that has several, such as comparisons."
    )
    items: str | None = Field(
        None, description="File with the items that the rows name by id only, as in Potato's exports: their texts."
    )
    source: str | None = Field(None, description="Source to record for every row that names none.")

    def refuse_conflicts(self) -> None:
        """Refuse an option of one format where the format is another."""
        for name, formats in FORMAT_OPTIONS.items():
            if getattr(self, name) != getattr(ImportOptions(), name) and self.format not in ("auto", *formats):
                raise GuerdonError(
                    f"imports.{name}: format must be {' or '.join(formats)}, got {self.format}. Leave the option out."
                )


Ties = Literal["drop", "soft", "margin0"]


class ExportOptions(Options):
    """Turn comparisons into rows that other tools train on."""

    format: str = Field("trl", description="Format to write, as listed in docs/convert.md.")
    ties: Ties | None = Field(
        None,
        description="Ties are dropped and counted (drop, the default of all formats but native), kept with p_chosen = 0.5 or equal ranks "
        "(soft), or written as a preference with margin 0 (margin0).",
    )
    pairs: Literal["all", "best_vs_rest", "adjacent", "best_vs_worst"] | None = Field(
        None, description="Pairs that a ranking gives: all by default, but nemo-rl keeps rankings whole."
    )
    margin_scale: float = Field(
        1.0, ge=0, description="The margin of a row is its strength times this; 0 leaves margins out."
    )
    extras: bool = Field(
        True,
        description="Write id, group, annotator, source, weight, rationale, strength, p_chosen, n_votes and rank_gap beside the columns "
        "of the format; trainers do not read them.",
    )


class CheckOptions(Options):
    """Check comparisons for problems."""

    length_auc_warn: float = Field(
        0.60, ge=0.5, le=1, description="Warn when length alone predicts the preference this well (AUC)."
    )
    shortcut_auc_warn: float = Field(
        0.75,
        ge=0.5,
        le=1,
        description="Warn when the characters of single responses predict the preference this well (AUC).",
    )
    shortcut_pairs: int = Field(
        2000, ge=0, description="Pairs that are drawn by hash to look for shortcuts in their texts; 0 skips it."
    )
    model_names_warn: float = Field(
        0.80,
        ge=0.5,
        le=1,
        description="Warn when the names of the models that wrote two responses predict the preference.",
    )
    max_examples: int = Field(5, ge=0, description="Example rows to name under each finding.")


class InspectOptions(Options):
    """Look at comparisons."""

    sample: int = Field(300, ge=0, le=5000, description="Random comparisons to browse.")
    seed: Seed = Field(0, description="Seeds the sample.")


class SplitOptions(Options):
    """Split comparisons by prompt group, deterministically by hash."""

    train: float = Field(0.8, ge=0, le=1, description="Share of groups to train on.")
    calibrate: float = Field(
        0.1, ge=0, le=1, description="Share of groups for fitting the temperature and for early stopping."
    )
    audit: float = Field(0.1, ge=0, le=1, description="Share of groups for the audit; nothing else ever sees them.")
    near_duplicates: bool = Field(
        True,
        description="Keep groups together whose prompts share most of their words (Jaccard similarity of word 5-grams >= 0.8).",
    )
    salt: str = Field(  # the name of 0.1, kept so that no split changes
        "assay", description="Changes which groups go where; the same salt gives the same split on any machine."
    )


class AggregateOptions(Options):
    """Turn many judgments of a pair into one label."""

    method: Literal["auto", "majority", "dawid_skene", "ability"] = Field(
        "auto",
        description="How votes become a probability; auto is ability where named annotators judged the same pairs, else majority.",
    )
    left_bias: bool = Field(
        True,
        description="Fit how far each annotator prefers the response shown first; off where the order in the file is not the one "
        "that they saw.",
    )
    weight: Literal["none", "n_eff"] = Field(
        "none",
        description="What multiplies a label's weight: nothing, or the number of equally able annotators that its votes are worth.",
    )
    draws: int = Field(1000, ge=100, description="Bootstrap draws of prompt groups per interval of the agreement.")
    seed: Seed = Field(0, description="Seeds the draws.")


class SelectOptions(Options):
    """Pick the comparisons to label next."""

    num: int = Field(500, ge=1, description="Comparisons to pick, those of the test stream included.")
    strategy: Literal["random", "d_optimal_half"] = Field(
        "random",
        description="How they are picked: at random, or partly where a label tells the model most (d_optimal_half).",
    )
    random_share: float = Field(
        0.5, ge=0.2, le=1, description="Share of an active batch that is picked at random all the same."
    )
    test_share: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of prompt groups, and of the picks, that form the test stream: random, never picked actively.",
    )
    per_prompt: int = Field(
        1, ge=1, description="Maximum pairs of one prompt group in each of the active and the random part."
    )
    subsample: int = Field(
        8000, ge=1, le=20_000, description="Candidates, drawn at random, that the model reads for active picks."
    )
    dimension: int = Field(512, ge=1, le=4096, description="Wider features are projected to this dimension at random.")
    ridge: float = Field(
        1.0, gt=0, description="Prior precision of the head, for features scaled to a mean square of 1."
    )
    round: int = Field(1, ge=1, description="Number of the labeling round, stored with each pick; each draws anew.")
    seed: Seed = Field(0, description="Of every random draw.")
