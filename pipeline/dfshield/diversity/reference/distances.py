"""Nearest neighbours among many features, block by block, so that no n x m matrix is held.

Who the neighbours are is found by matrix products in float64, of features moved to the mean; how
far they are is then computed from the differences of the features themselves. So equal features
are at distance 0, equal distances are equal, and the size of a block does not show.
"""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

ROWS, COLUMNS = 256, 1024
"""Size of a block: 2 MiB in float64, which stays in the cache of a core."""

Advance = Callable[[float], None]
"""Is told how many more features have been compared."""


def kth_neighbours(points: Float[Tensor, "n d"], k: int, advance: Advance) -> Float64[Tensor, " n"]:
    """Return the squared distance of every point to its k-th nearest other point.

    Args:
        points: more than k.
        k: at least 1.
        advance: is told as the work goes on, n in all.
    """
    centre = points.mean(dim=0, dtype=torch.float64)
    found = []
    for first, rows in _blocks(points, ROWS, centre):
        nearest = rows.new_full((len(rows), k), torch.inf)
        index = torch.zeros_like(nearest, dtype=torch.int64)
        for start, columns in _blocks(points, COLUMNS, centre):
            values = _offset_distances(rows, columns)
            own = torch.arange(first, first + len(rows), device=rows.device) - start
            within = (own >= 0) & (own < len(columns))
            values[within.nonzero().flatten(), own[within]] = torch.inf
            few = min(k, len(columns))
            new, place = values.topk(few, dim=1, largest=False)
            nearest, order = torch.cat([nearest, new], 1).topk(k, dim=1, largest=False)
            index = torch.cat([index, place + start], 1).gather(1, order)
        here = points[first : first + len(rows)]
        squared = [squared_distances(here, points[index[:, n]]) for n in range(k)]
        found.append(torch.stack(squared).amax(dim=0))
        advance(float(len(rows)))
    return torch.cat(found)


def nearest_of(
    points: Float[Tensor, "n d"],
    others: Float[Tensor, "m d"],
    penalties: Float64[Tensor, "p m"],
    advance: Advance,
) -> tuple[Int[Tensor, "p n"], Float64[Tensor, "p n"]]:
    """Return for every point x, and each penalty c, the j with the least ``||x - y_j||^2 + c_j``.

    Args:
        points: the x.
        others: the y.
        penalties: the c; zeros give the nearest neighbour.
        advance: is told as the work goes on, n in all.

    Returns:
        The indices j, and the squared distances ``||x - y_j||^2`` without the penalty.
    """
    centre = others.mean(dim=0, dtype=torch.float64)
    found = []
    for _, rows in _blocks(points, ROWS, centre):
        least = rows.new_full((len(penalties), len(rows)), torch.inf)
        index = torch.zeros_like(least, dtype=torch.int64)
        for start, columns in _blocks(others, COLUMNS, centre):
            values = _offset_distances(rows, columns)
            for which, penalty in enumerate(penalties[:, start : start + len(columns)]):
                new, place = (values + penalty).min(dim=1)
                less = new < least[which]
                least[which] = torch.where(less, new, least[which])
                index[which] = torch.where(less, place + start, index[which])
        found.append(index)
        advance(float(len(rows)))
    index = torch.cat(found, dim=1)
    squared = torch.stack([squared_distances(points, others, of) for of in index])
    return index, squared


def squared_distances(
    points: Float[Tensor, "n d"],
    others: Float[Tensor, "m d"],
    index: Int[Tensor, " n"] | None = None,
) -> Float64[Tensor, " n"]:
    """Return ``||x_i - y_i||^2`` in float64, by differences; with an index, of ``y_index[i]``."""
    found = []
    for start in range(0, len(points), ROWS):
        rows = slice(start, start + ROWS)
        other = others[rows] if index is None else others[index[rows]]
        found.append((points[rows].double() - other.double()).square().sum(dim=1))
    return torch.cat(found)


def _blocks(
    points: Float[Tensor, "n d"], size: int, centre: Float64[Tensor, " d"]
) -> Iterator[tuple[int, Float64[Tensor, "b d"]]]:
    for start in range(0, len(points), size):
        yield start, points[start : start + size].double() - centre


def _offset_distances(
    rows: Float64[Tensor, "a d"], columns: Float64[Tensor, "b d"]
) -> Float64[Tensor, "a b"]:
    """Return ``||y||^2 - 2 x.y``: the squared distances but for ``||x||^2``, one number a row."""
    norms = columns.square().sum(dim=1)
    return torch.addmm(norms, rows, columns.T, alpha=-2)
