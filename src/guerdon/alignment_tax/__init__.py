"""What a policy lost while it was optimized."""
