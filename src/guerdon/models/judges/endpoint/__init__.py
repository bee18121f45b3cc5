"""A judge behind one or several OpenAI-compatible servers: calls that are paced, retried, paid from a budget and kept."""
