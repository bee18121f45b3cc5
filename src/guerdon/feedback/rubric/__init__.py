"""Rubrics checked: lint, an audit of each criterion against people, and drafts from labeled comparisons."""
