"""Structural similarity of clean and attacked images."""

from __future__ import annotations

import numpy as np
import torch
from skimage.metrics import structural_similarity

from spearshield.types import Images, PerImage


def ssim(x: Images, x_adv: Images) -> PerImage:
    """Structural similarity of each pair, by scikit-image: a uniform 7x7 window, data range 1.

    Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment: From Error Visibility to Structural
    Similarity", 2004, https://doi.org/10.1109/TIP.2003.819861. For images smaller than 7 pixels the
    window is the largest odd one that fits; a window of one pixel compares brightness alone.
    """
    side = min(7, *x.shape[2:])
    window = side if side % 2 else side - 1
    a, b = x.cpu().numpy(), x_adv.cpu().numpy()
    sample = window > 1  # one pixel has no sample covariance
    values = [
        structural_similarity(  # type: ignore[no-untyped-call]
            p, q, win_size=window, channel_axis=0, data_range=1.0, use_sample_covariance=sample
        )
        for p, q in zip(a, b, strict=True)
    ]
    return torch.from_numpy(np.asarray(values, dtype=np.float32))
