"""The search of the attack `Automated`: TPE over candidates, then successive halving."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int
from torch import Tensor, from_numpy

from dfshield.attacks.automated_space import Candidate, Choice

KEPT = 4
"""One of so many candidates stays when the sample is doubled."""

Score = Callable[[Candidate, Int[Tensor, " m"]], float]
"""A candidate and the places of images in; how well it does on these out, higher is better."""


def search(
    score: Score,
    choices: Sequence[Choice],
    places: Int[Tensor, " n"],
    *,
    trials: int,
    sample: int,
    eps: float,
    seed: int,
) -> Candidate:
    """Return the candidate that does best (Yao et al. 2021).

    ``trials`` candidates, which the tree-structured Parzen estimator of Optuna draws one after the
    other, are tried on a random sample. Then a quarter of them, the best, on twice as many images,
    until one is left or all images are taken. Equal ones go in the order in which they were drawn.

    Args:
        score: tries a candidate; each is tried once on a sample.
        choices: what to choose from.
        places: of the images.
        trials: candidates.
        sample: images at first.
        eps: of the threat model.
        seed: of the estimator and the sample.
    """
    if len(choices) == 1 and not choices[0].open:  # there is nothing to search
        return choices[0].drawn(None, eps=eps)
    order = np.random.default_rng(np.random.SeedSequence(seed)).permutation(len(places))
    shuffled = places[from_numpy(order).to(places.device)]
    size = min(sample, len(places))
    found = _drawn(
        lambda candidate: score(candidate, shuffled[:size]),
        choices,
        trials=trials,
        eps=eps,
        seed=seed,
    )
    ranked = _ranked(found)
    while len(ranked) > 1 and size < len(places):
        size = min(2 * size, len(places))
        best = ranked[: math.ceil(len(ranked) / KEPT)]
        ranked = _ranked({each: score(each, shuffled[:size]) for each in best})
    return ranked[0]


def _drawn(
    score: Callable[[Candidate], float],
    choices: Sequence[Choice],
    *,
    trials: int,
    eps: float,
    seed: int,
) -> dict[Candidate, float]:
    """Return the candidates that the estimator draws, and their scores."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it announces every study
    try:
        sampler = optuna.samplers.TPESampler(seed=seed % 2**32)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        found: dict[Candidate, float] = {}
        for _ in range(trials):
            trial = study.ask()
            number = trial.suggest_categorical("attack", tuple(range(len(choices))))
            candidate = choices[number].drawn(trial, eps=eps)
            if candidate not in found:
                found[candidate] = score(candidate)
            study.tell(trial, found[candidate])
    finally:
        optuna.logging.set_verbosity(before)
    return found


def _ranked(scores: dict[Candidate, float]) -> list[Candidate]:
    return sorted(scores, key=lambda candidate: -scores[candidate])
