"""The training loop, and the attacks that training leaves behind."""
