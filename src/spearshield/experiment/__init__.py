"""Recipes and their runs; audits, trainings and attacks of a user's classifier; saved results."""
