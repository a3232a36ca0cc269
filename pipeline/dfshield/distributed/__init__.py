"""Ray: the executor that uses every GPU of a machine or a cluster.

The only package that imports Ray. Usage::

    with RayExecutor("local", folder=RunLayout.of(config).root) as executor:
        Run(config, executor=executor).run()
"""

from typing import TYPE_CHECKING, Any

__all__ = ["RayExecutor"]

if TYPE_CHECKING:
    from dfshield.distributed.executor import RayExecutor


def __getattr__(name: str) -> Any:
    """Import it when it is asked for: workers import single modules, which are lighter."""
    if name == "RayExecutor":
        from dfshield.distributed.executor import RayExecutor

        return RayExecutor
    raise AttributeError(f"module 'dfshield.distributed' has no attribute {name!r}")
