"""Loss functions that several files use."""
