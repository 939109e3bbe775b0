"""Recipes, their overrides, the manifest of a run folder, and runs."""
