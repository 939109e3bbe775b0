"""A recipe, its folder, and the run that joins them."""
