"""Evaluations of many images, in shards on disk that a stopped evaluation goes on from."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from fixtures.models import HalfSpace
from mutations import fails_under
from spearshield.attacks.pgd import PGD
from spearshield.dataset import Examples
from spearshield.judging import cached_evaluation
from spearshield.judging.cached_evaluation import CachedEvaluation
from spearshield.judging.evaluation import EvaluationSettings
from spearshield.judging.score import TENSORS
from spearshield.judging.trial import Trial
from spearshield.method import Defended
from spearshield.progress import Interrupted
from spearshield.threat import Linf
from spearshield.views import Adaptive

TRIAL = Trial(PGD(Linf(0.1), steps=3), Adaptive())


@pytest.fixture
def examples() -> Examples:
    pixels = torch.randint(110, 160, (10, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    x = pixels.to(torch.uint8)
    return Examples.of(x, HalfSpace()(x.float() / 255).argmax(1), ("below", "above"))


def evaluation(folder, purifier=None):
    victim = Defended(purifier or nn.Identity(), HalfSpace()).eval()
    return CachedEvaluation(victim, "none", folder, EvaluationSettings(batch_size=2), "data")


@fails_under(
    "a shard left out",
    (cached_evaluation, "reduce", lambda add, parts: parts[0]),
)
def test_shards_give_the_score_of_the_whole(examples, tmp_path, monkeypatch):
    whole = evaluation(tmp_path / "whole")(TRIAL, examples).score
    monkeypatch.setattr(cached_evaluation, "SHARD", 4)
    done: list[int] = []
    found = evaluation(tmp_path / "run")(TRIAL, examples, lambda n, _: done.append(n)).score
    assert done == [2, 4, 6, 8, 10]
    for name in TENSORS:
        assert torch.equal(getattr(found, name), getattr(whole, name)), name
    assert found.forwards == whole.forwards
    assert len([*(tmp_path / "run" / "outcomes").iterdir()]) == 3
    assert len([*(tmp_path / "run" / "pictures").iterdir()]) == 1


def test_a_stopped_evaluation_goes_on_with_its_shard(examples, tmp_path, monkeypatch):
    monkeypatch.setattr(cached_evaluation, "SHARD", 4)
    attacked: list[int] = []
    real = PGD.perturb

    def perturb(self, model, x, y, rng):
        attacked.extend(rng.ids.tolist())
        return real(self, model, x, y, rng)

    monkeypatch.setattr(PGD, "perturb", perturb)

    def stop(done, _):
        if done == 6:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        evaluation(tmp_path)(TRIAL, examples, stop)
    assert attacked == [*range(6)]
    attacked.clear()
    measured = evaluation(tmp_path)(TRIAL, examples)
    assert attacked == [*range(4, 10)] and measured.score.images == 10
    assert not measured.provenance.reused
    assert evaluation(tmp_path)(TRIAL, examples).provenance.reused
    attacked.clear()
    evaluation(tmp_path)(replace(TRIAL, attack=PGD(Linf(0.1), steps=4)), examples)
    assert attacked == [*range(10)]


def test_the_images_of_the_report_are_purified_in_batches(examples, tmp_path):
    class Darken(nn.Module):
        sizes: ClassVar[set[int]] = set()

        def forward(self, x):
            self.sizes.add(len(x))
            return (x - 0.1).clamp(0, 1)

    evaluation(tmp_path, Darken())(TRIAL, examples)
    assert max(Darken.sizes - {8}) == 2  # 8: the images of ``check_victim``
    (path,) = (tmp_path / "pictures").iterdir()
    stored = load_file(path)
    assert torch.equal(stored["x_hat"], (stored["x_adv"] - 0.1).clamp(0, 1))
