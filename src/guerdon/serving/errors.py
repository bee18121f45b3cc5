"""Why a request gets no reward. Each kind has the HTTP status that says the same; each dialect words it in its own JSON."""

from __future__ import annotations

import math

from guerdon.errors import GuerdonError


class ServingError(GuerdonError):
    """What was sent cannot be scored. status: of the HTTP response."""

    status = 400


class UnknownModel(ServingError):
    """A model that is not served."""

    status = 404


class TooLarge(ServingError):
    """A request that no queue of this server would take, however long it waits."""

    status = 413


class Unscorable(ServingError):
    """A judge that gave no verdict, or a model whose reward is not a number: never a number in the answer."""

    status = 502


class Overloaded(ServingError):
    """More work than can be done in time. retry_after: seconds after which it is worth another try."""

    status = 503

    def __init__(self, line: str, retry_after: float) -> None:
        super().__init__(line)
        self.retry_after = max(1, math.ceil(retry_after))


class BackendAway(Overloaded):
    """The engine behind this server does not answer, or fails; it may be starting again."""


class AuditFailed(Overloaded):
    """The audit log cannot be written, so that nothing is answered."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the audit log cannot be written ({reason}). Make room on the server, and send it again.", 5)


class Stopping(Overloaded):
    """The server ends; another one may start in its place."""

    def __init__(self) -> None:
        super().__init__("the server is stopping. Send the request again.", 5)
