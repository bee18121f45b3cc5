"""Pure functions of tensors and arrays: one home, one source and one test file a formula.

Nothing here reads a file, a config or a model. A per-comparison function gives one value a comparison; the caller
averages.
"""
