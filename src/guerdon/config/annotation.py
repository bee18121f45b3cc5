"""Options of a project in which people compare: what annotation.yaml holds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from guerdon.config.base import Options
from guerdon.errors import field_error

Verdict = Literal["strength7", "binary", "binary_tie", "binary_tie_bad", "rank", "best_worst", "rating"]
Probability = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, le=0.5)]
Word = Annotated[str, Field(min_length=1, max_length=80)]

PAIR_VERDICTS: tuple[Verdict, ...] = ("strength7", "binary", "binary_tie", "binary_tie_bad")
CAN_BE_BAD: tuple[Verdict, ...] = ("strength7", "binary_tie_bad")  # those in which both responses can be called bad
MOST_RANKED = 9  # responses that a person can put in order; more are compared as best and worst


class AnnotationOptions(Options):
    """How people are asked, how many judge an item, and how their work is checked."""

    question: str = Field("Which response is better?", min_length=1, description="The question above the responses.")
    guidelines: str | None = Field(
        None, description="Markdown file with the guidelines that people read; relative to where the command runs."
    )
    verdict: Verdict = Field(
        "strength7",
        description="What people give: one of seven steps from much better to much worse, or both bad (strength7); the "
        "better one (binary), with a tie (binary_tie), and with both bad (binary_tie_bad); an order of 3 to 9 responses (rank); "
        "the best and the worst (best_worst); or a rating of each response (rating).",
    )
    axes: list[Word] = Field(
        default_factory=list,
        description="Names of what is judged besides the verdict, such as helpfulness; with verdict=rating, what is rated.",
    )
    rating_low: int = Field(1, description="Lowest rating.")
    rating_high: int = Field(5, description="Highest rating.")
    reasons: list[Word] = Field(default_factory=list, description="Reasons for a verdict that can be ticked.")
    flags: list[Word] = Field(
        default=["unsafe", "hallucination", "personal information", "wrong language", "spam"],
        description="Problems of a response or prompt that can be ticked.",
    )
    skip_reasons: list[Word] = Field(
        default=["cannot judge", "unclear", "harmful", "other language", "too long"],
        min_length=1,
        description="Reasons for which an item can be skipped.",
    )
    rationale: Literal["off", "optional", "required"] = Field(
        "optional", description="Whether people write why they decided as they did."
    )
    rationale_min: int = Field(0, ge=0, description="Fewest characters of a rationale that is given.")
    auto_submit: bool = Field(
        False, description="Submit when a verdict key is pressed. A slip is then submitted too, and has to be undone."
    )
    math: bool = Field(False, description="Render TeX formulas.")
    word_counts: bool = Field(False, description="Show how long responses are, which makes people prefer long ones.")

    need: int = Field(1, ge=1, description="Judgments of an item.")
    overlap: Probability = Field(0.1, description="Share of items that more people judge, to measure agreement.")
    overlap_need: int = Field(3, ge=2, description="Judgments of these items.")
    adaptive_max: int = Field(
        5, ge=1, description="Judgments of an item of at least three votes on which people disagree; need adds none."
    )
    ambiguous: tuple[Probability, Probability] = Field(
        (0.25, 0.75), description="Shares of votes for the first response between which people disagree."
    )
    unresolved: Literal["keep", "adjudicate"] = Field(
        "keep",
        description="What becomes of an item on which people still disagree: a soft label (keep), or an adjudicator decides.",
    )

    training: int = Field(
        5, ge=0, description="Items with a known answer that each person judges first, if there are any."
    )
    feedback: bool = Field(True, description="Show the known answer after each of these.")
    gold: Share = Field(0.05, description="Share of items with a known answer, unannounced, if there are any.")
    gold_within: int = Field(2, ge=0, le=6, description="Most steps between a right strength and the known one.")
    attention: Share = Field(
        0.02, description="Share of items in which one response answers another prompt, if there are any."
    )
    repeat: Share = Field(0.02, description="Share of own pairs that come again in the opposite order.")
    repeat_after: int = Field(20, ge=1, description="Judgments between a pair and its repetition.")
    pause_below: Probability = Field(
        0.7, description="Accuracy on known answers below which people are warned, and later paused; 0 for never."
    )
    warn_after: int = Field(10, ge=1, description="Known answers that a warning needs.")
    pause_after: int = Field(20, ge=1, description="Known answers that a pause needs.")

    lease_seconds: float = Field(
        900.0, gt=0, description="Seconds for which an item is held for a person, or five times the median if longer."
    )
    heartbeat_seconds: float = Field(30.0, gt=0, description="Seconds after which an open page extends its lease.")
    max_skips: int = Field(3, ge=1, description="Skips after which an item goes to an adjudicator.")
    edit_window: int = Field(20, ge=0, description="Own judgments, the newest, that can be changed.")

    def refuse_conflicts(self) -> None:
        """Refuse what would be ignored, and limits that cannot be met."""
        if self.rationale == "off" and self.rationale_min:
            claim = "0 with annotation.rationale=off"
            raise field_error("annotation.rationale_min", claim, self.rationale_min, "Leave one of them out.")
        if self.rating_low >= self.rating_high:
            claim = f"below annotation.rating_high={self.rating_high}"
            raise field_error("annotation.rating_low", claim, self.rating_low, "Swap them.")
        if self.overlap and self.overlap_need < self.need:
            claim = f"at least annotation.need={self.need}"
            raise field_error("annotation.overlap_need", claim, self.overlap_need, "Raise it, or set overlap=0.")
        if self.ambiguous[0] > self.ambiguous[1]:
            raise field_error("annotation.ambiguous", "two shares, the lower first", self.ambiguous, "Swap them.")
        if self.pause_after < self.warn_after:
            claim = f"at least annotation.warn_after={self.warn_after}"
            raise field_error("annotation.pause_after", claim, self.pause_after, "Raise it.")
        for name in ("axes", "reasons", "flags", "skip_reasons"):
            words = getattr(self, name)
            if len(set(words)) < len(words):
                raise field_error(f"annotation.{name}", "a list without repetitions", words, "Remove the repetition.")
