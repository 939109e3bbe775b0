"""MNIST, LeNet: the reconstructed parts of IP-GAN and its relatives, on 1,000 validation images.

The papers do not give these choices. Each training changes one part of ``ip_gan`` of the recipe
``inverse_perturbation_mnist``, or of its UIPD and GRIP-GAN.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from spearshield.judging.trial import Trial
from spearshield.methods.uipd import UIPD
from spearshield.recipes.inverse_perturbation_mnist import (
    EPOCH,
    GRADIENT_BASED,
    GRIP_GAN,
    IP_GAN,
    OPTIMISATION_BASED,
    PGD_10,
    SEEN,
    STEPS,
    UAP_TRIAL,
)
from spearshield.recipes.inverse_perturbation_mnist import RECIPE as WHOLE
from spearshield.threat import Linf
from spearshield.training.loop import Training
from spearshield.views import Oblivious


def ip_gan(name: str, **changes: Any) -> Training:
    """IP-GAN with changed hyper-parameters."""
    return Training(replace(IP_GAN, **changes), STEPS, SEEN, name=name, precompute=True)


RECIPE = replace(
    WHOLE,
    split="validation",
    images=1_000,
    defences=(
        WHOLE.defences[0],
        ip_gan("ip_gan"),
        ip_gan("no_discriminator", adversarial_weight=0.0),
        ip_gan("strong_discriminator", adversarial_weight=0.2),
        ip_gan("no_logits", logit_weight=0.0),
        ip_gan("no_features", feature_weight=0.0),
        ip_gan("no_pixels", pixel_weight=0.0),
        ip_gan("no_clean_images", clean_share=0.0),
        ip_gan("fewer_clean_images", clean_share=0.1),
        ip_gan("more_clean_images", clean_share=0.5),
        ip_gan("narrow", width=8),
        Training(IP_GAN, STEPS, PGD_10, name="pgd_only", precompute=True),
        Training(IP_GAN, STEPS, SEEN, name="attacked_at_each_step"),
        Training(GRIP_GAN, STEPS, name="grip_gan"),
        Training(replace(GRIP_GAN, noise=0.5), STEPS, name="grip_gan_weak_noise"),
        Training(replace(GRIP_GAN, noise=2.0), STEPS, name="grip_gan_strong_noise"),
        Training(UIPD(), EPOCH, name="uipd"),
        Training(UIPD(source="pixels", lr=0.01), EPOCH, name="uipd_pixels"),
        Training(UIPD(Linf(0.1)), EPOCH, name="uipd_small"),
    ),
    trials=(
        *(Trial(attack, Oblivious()) for attack in GRADIENT_BASED + OPTIMISATION_BASED),
        UAP_TRIAL,
    ),
)
