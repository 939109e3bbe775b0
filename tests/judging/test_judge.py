"""The judge: rows of trials and of the worst case, trials on survivors, and stored scores."""

from __future__ import annotations

import functools
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import torch
from torch import nn

from fixtures.models import HalfSpace
from mutations import fails_under
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.dataset import Examples
from spearshield.judging import cached_evaluation
from spearshield.judging.cached_evaluation import CachedEvaluation
from spearshield.judging.evaluation import EvaluationSettings
from spearshield.judging.judge import Judge
from spearshield.judging.provenance import Provenance, command, versions
from spearshield.judging.results import WORST_CASE, to_json
from spearshield.judging.trial import Trial
from spearshield.method import Outcome
from spearshield.storage import checkpoint
from spearshield.storage.digest import digest, weights_digest
from spearshield.storage.installed import commit
from spearshield.threat import L2, Linf
from spearshield.views import Oblivious

ABOUT = {"recipe": "r", "data": "grey", "split": "test", "classifier": "half_space"}
THREAT = Linf(0.02)
TRIALS = (
    Trial(FGSM(THREAT)),
    Trial(PGD(THREAT, steps=3), survivors=True),
    Trial(PGD(THREAT, steps=2), Oblivious(), images=8),
    Trial(FGSM(L2(0.1))),
)


def examples() -> Examples:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(88, 168, (24, 1, 4, 4), generator=generator).to(torch.uint8)
    y = HalfSpace()(pixels.float() / 255).argmax(1)
    return Examples.of(pixels, y, ("below", "above"))


class Darken(nn.Module):
    def forward(self, x):
        return 0.99 * x


def rows(folder, seed=0):
    settings = EvaluationSettings(seed)
    judge = Judge(TRIALS, examples(), folder, settings, ABOUT, {"weights": "w"})
    return list(judge.rows("darken", victim()))


def victim() -> Outcome:
    return Outcome(HalfSpace().eval(), Darken().eval())


def test_a_row_for_each_trial_and_for_each_worst_case(tmp_path):
    made = rows(tmp_path)
    assert [(row.attack, row.view, row.threat, row.images) for row in made] == [
        ("fgsm", "adaptive", "Linf", 24),
        ("pgd", "adaptive", "Linf", 24),
        ("pgd", "oblivious", "Linf", 8),
        ("fgsm", "adaptive", "L2", 24),
        (WORST_CASE, WORST_CASE, "Linf", 8),
        (WORST_CASE, WORST_CASE, "L2", 24),
    ]
    assert made[1].robust_acc <= made[0].robust_acc < 1
    assert all((row.verdict is None) == (row.attack != WORST_CASE) for row in made)
    assert {row.parameters["weights"] for row in made} == {"w"}


ORIGIN = {
    "created": "2026-11-01T00:00:00Z",
    "versions": {"python": "3", "torch": "2"},
    "commit": "c",
}
"""A provenance that an earlier run may have stored."""


@pytest.mark.parametrize("words", [None, "spearshield run r"])
def test_every_row_has_its_provenance(tmp_path, words):
    token = command.set(words)
    made = rows(tmp_path)
    command.reset(token)
    assert {row["command"] for row in to_json(made)} == {words}
    images = examples()
    data = digest(images.ids, images.y, images.pixels)
    for row in made:
        assert row.data_digest == data and row.versions == versions() and not row.reused
        assert row.weights_digest == weights_digest(victim().defended)
        assert row.device.startswith("cpu") and row.commit == commit()
        age = datetime.now(UTC) - datetime.fromisoformat(row.created)
        assert -1 < age.total_seconds() < 60


def alter(folder, pattern, **changes):
    """Change the provenance that is stored with an outcome."""
    (path,) = (folder / "outcomes").glob(pattern)
    stored = checkpoint.load(path)
    stored["provenance"] |= changes
    checkpoint.save(path, stored)


REUSED = CachedEvaluation._reused


def reread(evaluation, stored):
    """The outcome in a file with the provenance of this process."""
    measured = REUSED(evaluation, stored)
    now = Provenance.now("cpu", "d", "w")
    return measured._replace(provenance=replace(now, reused=True))


@fails_under(
    "versions of this process in every row",
    (CachedEvaluation, "_reused", reread),
)
def test_a_reused_row_has_the_provenance_of_the_earlier_run(tmp_path):
    fresh = rows(tmp_path)
    for path in (tmp_path / "outcomes").iterdir():
        alter(tmp_path, path.name, device="cuda", command="spearshield run r", **ORIGIN)
    token = command.set("spearshield run other")
    again = rows(tmp_path)
    command.reset(token)
    for before, after in zip(fresh, again, strict=True):
        assert after.reused and after.device == "cuda" and after.command == "spearshield run r"
        assert {name: getattr(after, name) for name in ORIGIN} == ORIGIN
        assert after.robust_acc == before.robust_acc
        assert (after.data_digest, after.weights_digest) == (
            before.data_digest,
            before.weights_digest,
        )


def test_a_worst_case_of_old_and_new_parts_is_new_and_lists_what_differs(tmp_path):
    rows(tmp_path)
    old = {**ORIGIN, "versions": versions() | {"torch": "2.1"}, "device": "cuda"}
    alter(tmp_path, "darken.pgd.oblivious*", **old)
    (path,) = (tmp_path / "outcomes").glob("darken.pgd.adaptive*")
    path.unlink()
    first, survivors, oblivious, _, worst, other = rows(tmp_path)
    assert first.reused and oblivious.reused and other.reused
    assert not survivors.reused and not worst.reused
    torch_now = versions()["torch"]
    assert worst.versions["torch"] == f"2.1, {torch_now}" and oblivious.versions["torch"] == "2.1"
    assert worst.versions["numpy"] == versions()["numpy"]
    assert worst.device == f"cuda, {first.device}" and worst.created == survivors.created


def test_a_stored_score_is_read_for_the_same_seed_only(tmp_path, monkeypatch):
    first = rows(tmp_path)
    calls = counted(monkeypatch)
    assert rows(tmp_path) == [replace(row, reused=True) for row in first] and calls == []
    rows(tmp_path, seed=1)
    assert len(calls) == len(TRIALS)


def counted(monkeypatch):
    """The list of all evaluations from now on."""
    evaluate = cached_evaluation.evaluate
    calls = []

    def called(*arguments, **options):
        calls.append(arguments)
        return evaluate(*arguments, **options)

    monkeypatch.setattr(cached_evaluation, "evaluate", called)
    return calls


class Scaled(nn.Module):
    """A classifier whose answers depend on more than its weights."""

    factor = 1.0

    def __init__(self):
        super().__init__()
        self.part, self.offset = HalfSpace(), torch.zeros(1)
        self.after = functools.partial(torch.mul, other=torch.ones(1))

    def forward(self, x):
        return self.after(self.part(x * self.factor) + self.offset)


CHANGES = {
    "attribute of the class": (lambda _, patch: patch.setattr(Scaled, "factor", 0.9)),
    "code": lambda _, patch: patch.setattr(Scaled, "forward", lambda self, x: self.part(x)),
    "tensor held as an attribute": lambda model, _: model.offset.add_(1),
    "bound argument": lambda model, _: model.after.keywords["other"].mul_(2),
    "version of torch": lambda _, patch: patch.setattr(torch, "__version__", "2.13.9"),
    "source of the package": lambda _, patch: patch.setattr(
        cached_evaluation, "source_digest", lambda: "other"
    ),
    "undetermined": lambda model, _: setattr(model, "note", (i for i in ())),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_outcome_is_measured_again_where_what_it_depends_on_has_changed(
    tmp_path, monkeypatch, change
):
    model = Scaled().eval()
    judge = Judge(TRIALS[:1], examples(), tmp_path, EvaluationSettings(), ABOUT, {})
    made = list(judge.rows("scaled", Outcome(model)))
    calls = counted(monkeypatch)
    assert all(row.reused for row in judge.rows("scaled", Outcome(model))) and calls == []
    CHANGES[change](model, monkeypatch)
    again = list(judge.rows("scaled", Outcome(model)))
    assert len(calls) == 1 and not any(row.reused for row in again) and len(again) == len(made)
    assert len([*(tmp_path / "outcomes").iterdir()]) == 1
    assert len([*(tmp_path / "pictures").iterdir()]) == 1
