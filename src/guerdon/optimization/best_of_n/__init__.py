"""Best of N: draw and score N responses to each prompt, keep the best, and measure what the choice is worth."""
