"""All common corruptions. A new one is a class and a line here."""

from dfshield.evaluation.corruptions.base import Corruption
from dfshield.evaluation.corruptions.blur import DefocusBlur, GlassBlur, MotionBlur, ZoomBlur
from dfshield.evaluation.corruptions.digital import (
    Contrast,
    ElasticTransform,
    JPEGCompression,
    Pixelate,
)
from dfshield.evaluation.corruptions.noise import GaussianNoise, ImpulseNoise, ShotNoise
from dfshield.evaluation.corruptions.weather import Brightness, Fog, Frost, Snow
from dfshield.families import Family

CORRUPTIONS: Family[Corruption] = Family(
    "corruption",
    (
        GaussianNoise,
        ShotNoise,
        ImpulseNoise,
        DefocusBlur,
        GlassBlur,
        MotionBlur,
        ZoomBlur,
        Snow,
        Frost,
        Fog,
        Brightness,
        Contrast,
        ElasticTransform,
        Pixelate,
        JPEGCompression,
    ),
)
