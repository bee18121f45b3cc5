"""Pure functions of tensors and arrays. Every formula has one home, one cited source and one test file.

Nothing here reads a file, a config or a model. A function about comparisons returns one value per comparison; the caller
averages.
"""
