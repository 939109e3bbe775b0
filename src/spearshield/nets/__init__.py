"""Networks that several files use. Other networks are defined in the file of their method."""
