"""Everything that fulfills a contract: reward models, judges, policies, and what wraps them."""
