"""The store: one database in which people, AI judges, principles, rules and reward models are annotators of the same kind.

`items` says what it holds, `lines` is its single-file form, `tables` its schema, and `database` opens it.
"""
