"""Classifier architectures, one per file. The file's name is the architecture's name."""
