"""Edits of a text that should or should not change its reward, and the texts they are applied to."""
