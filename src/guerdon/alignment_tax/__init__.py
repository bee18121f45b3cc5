"""What a policy lost in other abilities while it was optimized."""
