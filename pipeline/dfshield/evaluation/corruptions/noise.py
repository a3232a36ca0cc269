"""Noise: Gaussian, of photons, and of dead pixels."""

from typing import ClassVar

import numpy as np

from dfshield.evaluation.corruptions.base import Corruption, Image


class GaussianNoise(Corruption):
    """Normal noise of a standard deviation on every value."""

    name = "gaussian_noise"
    settings: ClassVar[tuple[float, ...]] = (0.04, 0.06, 0.08, 0.09, 0.10)

    def _changed(self, x: Image, c: float, draw: np.random.Generator) -> Image:
        return x + draw.normal(scale=c, size=x.shape)


class ShotNoise(Corruption):
    """Poisson noise: a value of 1 is so many photons."""

    name = "shot_noise"
    settings: ClassVar[tuple[float, ...]] = (500, 250, 100, 75, 50)

    def _changed(self, x: Image, c: float, draw: np.random.Generator) -> Image:
        return draw.poisson(x * c) / c


class ImpulseNoise(Corruption):
    """Salt and pepper: a share of the values is 0 or 1, half each."""

    name = "impulse_noise"
    settings: ClassVar[tuple[float, ...]] = (0.01, 0.02, 0.03, 0.05, 0.07)

    def _changed(self, x: Image, c: float, draw: np.random.Generator) -> Image:
        spoilt, salt = draw.random(x.shape) < c, draw.random(x.shape) < 0.5
        return np.where(spoilt, salt.astype(float), x)
