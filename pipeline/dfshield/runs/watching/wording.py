"""Numbers as people read them."""


def format_rate(per_second: float | None) -> str:
    """Return a rate in the unit of time in which there is at least one: ``4.2/min``."""
    if not per_second or per_second < 0:
        return ""
    for unit, seconds in (("s", 1), ("min", 60)):
        if per_second * seconds >= 1:
            return f"{per_second * seconds:,.1f}/{unit}"
    return f"{per_second * 3600:,.1f}/h"


def format_retries(count: int) -> str:
    """Return a number of retries in words."""
    return "1 retry" if count == 1 else f"{count} retries"
