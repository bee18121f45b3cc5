"""Options of a server that gives rewards to trainers."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from guerdon.config.base import Options
from guerdon.errors import field_error

TOKEN_VARIABLE: Final = "GUERDON_REWARD_TOKEN"  # of the environment; a command line is no place for secrets


class ServingOptions(Options):
    """Limits of the server, and what it keeps."""

    max_tokens: int = Field(
        1_000_000,
        ge=16,
        description="Tokens of texts that may wait; a request beyond is answered with 503 Retry-After.",
    )
    max_items: int = Field(4096, ge=1, description="Texts that may wait, and that one request may hold.")
    max_body: int = Field(32, ge=1, le=4096, description="Megabytes of one request.")
    deadline: float = Field(
        120.0, gt=0, le=86_400, description="Seconds after which a request that is not answered gets 503 Retry-After."
    )
    prefix_cache: int = Field(
        1024,
        ge=0,
        description="Megabytes for keys and values of prompts, kept from request to request, for each model; 0 keeps none.",
    )
    abstain_below: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Advise to abstain where shift_p, the p-value of being like the data, is below; 0 never.",
    )
    abstain_std: float | None = Field(
        None, gt=0, description="Advise to abstain where the standard deviation of a score is above, in nats."
    )
    audit_log: str | None = Field(
        None,
        description="File to which a line is appended for each request: who asked, hashes of the texts, rewards, status.",
    )
    audit_texts: bool = Field(False, description="Put the texts themselves into the audit log.")
    allow_template: bool = Field(
        False, description="Let requests bring chat templates of their own, which are programs."
    )
    calibrated: bool = Field(True, description="Apply the temperature stored with the model.")
    batch_tokens: int = Field(
        4096,
        ge=16,
        description="Maximum computed tokens per pass; changes memory and how long a short request waits, and scores by rounding only.",
    )
    max_connections: int = Field(2000, ge=1, description="Open connections; one beyond is answered with 503.")
    stop_seconds: int = Field(
        30, ge=0, le=3600, description="Seconds that requests in progress have to finish when the server is stopped."
    )

    def refuse_conflicts(self) -> None:
        """Refuse what would be ignored."""
        if self.audit_texts and self.audit_log is None:
            raise field_error(
                "serving.audit_texts", "false without serving.audit_log", True, "Name a file, or leave it out."
            )
