"""Fixtures of the audit: digits, and classifiers of them."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from models_of_digits import EPS, convolutional, dense, train

from dfshield.datasets import load_images


@pytest.fixture(scope="session")
def digits():
    """A stratified sample of 120 test images and their labels."""
    return load_images("digits").stratified(120, seed=0).tensors()


@pytest.fixture(scope="session")
def standard():
    return train(convolutional, epochs=6, seed=0)


@pytest.fixture(scope="session")
def robust_dense():
    return train(dense, epochs=25, seed=2, eps=EPS)
