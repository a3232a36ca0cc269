"""How much of a GPU's memory some work holds, and how much a worker may hold."""

import torch

MEMORY_SHARE = 0.8
"""Of the memory that a worker may hold, the most that is planned with."""


class PeakMemory:
    """Tells the most memory that this process has reserved on a device since it was made.

    Args:
        device: nothing is known of a CPU's.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)

    def bytes(self) -> int | None:
        """Return it; None where it is not known."""
        if self._device.type != "cuda":
            return None
        return int(torch.cuda.max_memory_reserved(self._device))


def memory_share(device: torch.device) -> int | None:
    """Return how many bytes of a GPU's memory this process may hold; None for a CPU.

    They are its share, or what others have left of it.
    """
    if device.type != "cuda":
        return None
    share = torch.cuda.get_per_process_memory_fraction(device)
    free, total = torch.cuda.mem_get_info(device)
    return min(int(share * total), free + torch.cuda.memory_reserved(device))
