"""The prompts of judges: text files to copy and edit."""
