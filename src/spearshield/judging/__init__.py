"""A victim meets attacks: evaluation, battery, checks and verdicts."""
