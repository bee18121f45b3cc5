"""A reward model and more rows than memory holds in, the same rows with their rewards out."""
