"""The training loop, optimiser steps, black boxes, and attacks that come from training."""
