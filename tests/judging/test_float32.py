"""Evaluation uses full float32, and leaves the settings of PyTorch as they were."""

import torch

from fixtures.models import HalfSpace
from spearshield.attacks.pgd import PGD
from spearshield.datasets.digits import Digits
from spearshield.judging.evaluation import evaluate
from spearshield.method import Defended
from spearshield.threat import Linf


class Recording(HalfSpace):
    """Records whether TF32 is allowed when it is called."""

    def forward(self, x):
        self.allowed = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        return super().forward(x)


def test_an_evaluation_does_not_use_tf32():
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    assert before[0]  # the default of PyTorch, or this test would show nothing
    model = Recording((1, 8, 8))
    digits = Digits().load("test")
    few = digits[digits.y < 2][:3]
    evaluate(
        Defended(torch.nn.Identity(), model).eval(),
        PGD(Linf(0.1), steps=1),
        type(few)(few.pixels, few.y, few.ids, few.names[:2]),
    )
    assert model.allowed == (False, False)
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before
