"""Feedback from models: judged comparisons, rubrics, critique and revision under a constitution."""
