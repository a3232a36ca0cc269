"""dfshield: harden a pretrained image classifier without its training data (DataFreeShield)."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["__version__", "load"]

if TYPE_CHECKING:
    from dfshield.runs.inputs.classifier_folder import load


def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is asked for, so that ``dfshield --help`` is quick."""
    if name == "load":
        from dfshield.runs.inputs.classifier_folder import load

        return load
    raise AttributeError(f"module 'dfshield' has no attribute {name!r}")
