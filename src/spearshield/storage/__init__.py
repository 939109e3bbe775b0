"""Files: atomic writes, digests, serialization, checkpoints, weights, archives, images."""
