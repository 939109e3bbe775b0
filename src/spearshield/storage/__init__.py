"""Bytes on disk: whole files, digests, checkpoints, weights, archives and images."""
