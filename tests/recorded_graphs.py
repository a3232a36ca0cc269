"""CUDA graphs that are only pretended: operations on the CPU, recorded as a tape and replayed.

A replay computes the operations of the tape again, on the same memory, whatever Python has done
since: what a graph must not hold, such as a number that the host knew as it was recorded, shows.
"""

from collections import Counter
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

READS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default}
CAPTURED, REPLAYED = "captured", "replayed"


class Graph:
    """Stands in for ``torch.cuda.CUDAGraph``."""

    counted: ClassVar[Counter[str]] = Counter()

    def __init__(self):
        self.tape = []

    @torch.no_grad()
    def replay(self):
        self.counted[REPLAYED] += 1
        for func, args, kwargs, kept in self.tape:
            made = [t for t in tree_flatten(func(*args, **kwargs))[0] if isinstance(t, Tensor)]
            for old, new in zip(kept, made, strict=True):
                if old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                    old.copy_(new)


class Capture(TorchDispatchMode):
    """Stands in for ``torch.cuda.graph``: operations of the block are recorded."""

    def __init__(self, graph, pool=None, *, capture_error_mode):
        super().__init__()
        assert capture_error_mode == "thread_local"
        self.graph = graph
        Graph.counted[CAPTURED] += 1

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in READS:
            raise torch.AcceleratorError("operation not permitted when stream is capturing")
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        kept = [t for t in tree_flatten(made)[0] if isinstance(t, Tensor)]
        self.graph.tape.append((func, args, kwargs, kept))
        return made


class Stream:
    def __init__(self, device=None):
        pass

    def wait_stream(self, other):
        pass


@contextmanager
def current(stream):
    yield


def pretend(monkeypatch):
    """Let graphs be recorded on the CPU; return how many were captured, and replays."""
    Graph.counted = Counter()
    for name, value in {
        "CUDAGraph": Graph,
        "graph": Capture,
        "Stream": Stream,
        "stream": current,
        "current_stream": Stream,
        "set_stream": lambda stream: None,
        "graph_pool_handle": lambda: (0, 1),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return Graph.counted
