"""A rubric: criteria that are judged one by one and combined into a reward."""
