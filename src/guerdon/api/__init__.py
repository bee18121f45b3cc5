"""The verbs of the command line as functions: objects or paths in, objects out. One file per page of the docs.

Options are keywords with the names that `guerdon.config` gives them.
"""
