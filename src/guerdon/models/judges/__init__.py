"""Models that judge: what they are asked, how their answers are read, and how verdicts become log-odds and rewards."""
