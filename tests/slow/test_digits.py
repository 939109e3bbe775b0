"""Accuracies of small methods after training on the embedded digits."""

from __future__ import annotations

import pytest

from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.classifiers.m_cnn import MCNN
from spearshield.datasets.digits import Digits
from spearshield.experiment.recipe import Recipe
from spearshield.experiment.run import Run
from spearshield.judging.trial import Trial
from spearshield.methods.ape_gan import APEGAN
from spearshield.methods.dae import DAE
from spearshield.methods.pgd_adversarial_training import PGDAdversarialTraining
from spearshield.methods.standard_training import StandardTraining
from spearshield.threat import Linf
from spearshield.training.loop import Training
from spearshield.views import BPDA, Adaptive, Oblivious

pytestmark = pytest.mark.slow
BUDGET = Linf(0.2)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Robust accuracy by method, attack and view, and clean accuracy by method."""
    strong = PGD(BUDGET, steps=40, restarts=2)
    recipe = Recipe(
        data=Digits(),
        classifier=MCNN(),
        pretraining=Training(StandardTraining(), steps=300, batch_size=64),
        defences=(
            Training(APEGAN(width=32), 400, FGSM(BUDGET), batch_size=64),
            Training(DAE(width=16, noise=0.3), 400, batch_size=64),
            Training(
                PGDAdversarialTraining(warmup_steps=200),
                800,
                PGD(BUDGET, steps=5, step_size=0.06, early_stop=False),
                batch_size=64,
            ),
        ),
        trials=(Trial(FGSM(BUDGET), Oblivious()), Trial(strong, Adaptive()), Trial(strong, BPDA())),
    )
    made = Run(recipe, "slow", tmp_path_factory.mktemp("slow") / "run")()
    robust = {(r.method, r.attack, r.view): r.robust_acc for r in made}
    return robust, {r.method: r.acc for r in made}


def test_the_classifier_is_accurate_and_the_attack_breaks_it(rows):
    robust, clean = rows
    assert clean["standard_training"] >= 0.93
    assert robust["standard_training", "pgd", "adaptive"] <= 0.02


def test_purifiers_help_against_an_oblivious_attacker(rows):
    robust, clean = rows
    bare = robust["standard_training", "fgsm", "adaptive"]
    assert robust["ape_gan", "fgsm", "oblivious"] >= bare + 0.4
    assert robust["dae", "fgsm", "oblivious"] >= bare + 0.1
    assert min(clean["ape_gan"], clean["dae"]) >= 0.85


def test_purifiers_do_not_help_against_an_adaptive_attacker(rows):
    robust, _ = rows
    worst = robust["ape_gan", "worst_case", "worst_case"]
    assert worst <= robust["ape_gan", "fgsm", "oblivious"] - 0.4


def test_adversarial_training_is_robust_against_an_adaptive_attacker(rows):
    robust, clean = rows
    assert clean["pgd_adversarial_training"] >= 0.88
    assert robust["pgd_adversarial_training", "pgd", "adaptive"] >= 0.3
