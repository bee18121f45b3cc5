"""Why a request of a person who compares cannot be met. Each has the HTTP status that says the same."""

from __future__ import annotations

from guerdon.errors import GuerdonError


class RequestError(GuerdonError):
    """What was asked cannot be. status: of an HTTP response."""

    status = 400


class AnswerError(RequestError):
    """An answer that the project does not take."""

    status = 422


class NotYours(RequestError):
    """Something of another person, or of nobody: whoever asks is not told which."""

    status = 404


class NotNow(RequestError):
    """A project or an account that is paused or closed."""

    status = 403


class Conflict(RequestError):
    """An answer that contradicts what is stored and may not replace it."""

    status = 409
