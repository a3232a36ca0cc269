"""The spaces in which sets of images are compared: one contract (`FeatureSpace`)."""

from dfshield.diversity.features.base import FeatureSpace
from dfshield.diversity.features.pixels import Pixels
from dfshield.diversity.features.registry import FEATURE_SPACES
from dfshield.diversity.features.teacher import TeacherFeatures
from dfshield.diversity.features.vgg16 import Vgg16Features

__all__ = ["FEATURE_SPACES", "FeatureSpace", "Pixels", "TeacherFeatures", "Vgg16Features"]
