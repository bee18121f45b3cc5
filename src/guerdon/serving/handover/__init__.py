"""What trainers get to ask a guerdon server for rewards: a template of a reward function for each, and what writes them."""
