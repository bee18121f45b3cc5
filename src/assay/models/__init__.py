"""Everything that fulfils a contract: reward models, judges, policies, and what wraps them."""
