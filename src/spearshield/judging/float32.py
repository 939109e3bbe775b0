"""Arithmetic in full float32, also on GPUs that would round factors to TF32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_float32() -> Iterator[None]:
    """Convolutions and matrix products inside the block use float32, not TF32.

    PyTorch convolves in TF32 on a GPU by default, with a relative error of about 3e-4, which can
    change the prediction of an image close to the decision boundary.
    """
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
