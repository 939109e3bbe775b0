"""CIFAR-10 as JPEG, L-inf 8/255: training against generators and PGD training, in equal time.

Training and test images are JPEG-compressed, so no number is comparable with published results. The
classifier is the ResNet of Wang and Yu without batch statistics at test time. The trainings have
different numbers of steps, so that each takes about as long as four epochs of PGD training on a
CPU, 20 minutes on one core; the times that were measured stand with the results. Images are
reflected and shifted by up to two pixels, as in the paper.
"""

from __future__ import annotations
