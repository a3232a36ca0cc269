"""The two directions in which real features vary most, and where other features lie in them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dfshield.errors import InputError
from dfshield.seeds import RngStream, derived_seed

COMPONENTS = 2


@dataclass(frozen=True)
class Projection:
    """The first two principal components of real features.

    Attributes:
        project: takes features (n, d), returns their coordinates (n, 2), on the CPU.
        shares: of the variance of the real features, one a component.
    """

    project: Callable[[Tensor], Tensor]
    shares: tuple[float, ...]


def principal_components(real: Float[Tensor, "n d"], *, seed: int = 0) -> Projection:
    """Fit a principal component analysis (scikit-learn's) on real features.

    Args:
        real: at least 2 images with at least 2 features that differ.
        seed: of the randomised solver, which is used where n and d are large.

    Raises:
        InputError: for too few images or features, or features that are all equal.
    """
    from sklearn.decomposition import PCA  # here: it loads slowly

    if min(real.shape) < COMPONENTS:
        raise InputError(
            f"real: {len(real)} images of {real.shape[1]} features: two components need 2 of each"
        )
    if bool((real == real[0]).all()):
        raise InputError("real: all images have equal features: there is no direction to show")
    analysis = PCA(COMPONENTS, random_state=derived_seed(seed, RngStream.DIVERSITY))
    analysis.fit(real.cpu().numpy())

    def project(features: Float[Tensor, "m d"]) -> Float[Tensor, "m 2"]:
        return torch.from_numpy(analysis.transform(features.cpu().numpy()))

    return Projection(project, tuple(float(s) for s in analysis.explained_variance_ratio_))
