"""Generative attacks (spears) and defences (shields) for image classifiers, and their judge."""

__version__ = "0.1.0"
