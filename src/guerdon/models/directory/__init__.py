"""A saved model on disk: its layout, its card, how it is loaded, saved and examined."""
