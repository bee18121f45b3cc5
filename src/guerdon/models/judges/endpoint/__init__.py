"""A judge behind one or several OpenAI-compatible servers: calls that are paced, retried, paid from a budget and kept."""

from guerdon.models.judges.endpoint.respondent import EndpointRespondent

__all__ = ["EndpointRespondent"]
