"""What is said of students that were not measured on real images: in every place the same."""

from collections.abc import Sequence

UNMEASURED = (
    "No real image was measured, so nothing is known about the accuracy or the robustness of the "
    "student on real images."
)


def unmeasured(missing: Sequence[object], total: int) -> str:
    """Return what has to be said of a run; empty where all its students were measured.

    Args:
        missing: the seeds whose students were not.
        total: how many seeds the run has.
    """
    if not missing or len(missing) == total:
        return UNMEASURED if missing else ""
    return f"Seed{'s' if len(missing) > 1 else ''} {', '.join(map(str, missing))}: {UNMEASURED}"
