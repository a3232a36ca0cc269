"""Making again, wherever a run lies by now, what ``verify`` has found and deleted."""

import json
from collections.abc import Sequence

from dfshield.cli.execution import at_work, done_stages
from dfshield.runs.names import CONFIG_FILE
from dfshield.storage import Folder


def make_again(run: Folder, stages: Sequence[str], *, cluster: str | None) -> None:
    """Have stages of a run make what its folder lacks.

    Args:
        run: its folder, with the configuration.
        stages: their names.
        cluster: an address as ``cluster.address`` takes it; None: that of the configuration.
    """
    parent, name = run.parent()
    with run.as_path(CONFIG_FILE) as path:
        # In quotes: YAML would make something else of some paths.
        overrides = [f"storage.path={json.dumps(str(parent))}", f"name={json.dumps(name)}"]
        overrides.append("storage.sink=parquet")
        if cluster:
            overrides.append(f"cluster.address={json.dumps(cluster)}")
        with at_work(str(path / CONFIG_FILE), overrides) as (settings, executor, observer):
            done_stages(settings, executor, observer, stages)
