"""One file per measure: a model and comparisons in, a section of the report out."""
