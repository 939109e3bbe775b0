"""The training loop, and what methods share: optimisers, black boxes, attacks from training."""
