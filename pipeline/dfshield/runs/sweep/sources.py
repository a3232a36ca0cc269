"""What the trials of a sweep share: every distinct teacher and data set, made once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from dfshield.canonical import identity_hash
from dfshield.config import BY_METHOD, Config, config_from, expand, parse_yaml
from dfshield.runs.execution.protocol import Executor
from dfshield.runs.inputs.begun_images import as_begun
from dfshield.runs.inputs.synthesizer import without_augment
from dfshield.runs.layout import RunLayout
from dfshield.runs.lease import Lease
from dfshield.runs.names import CONFIG_FILE
from dfshield.runs.pipeline import Run
from dfshield.runs.stages.registry import STAGES
from dfshield.runs.sweep.plan import Trial, source_key
from dfshield.runs.sweep.trial import Source
from dfshield.runs.watching.events import Observer
from dfshield.storage import Folder, SurrogateDataset

SETS = "sets"
"""In the folder of a sweep: data sets that are not the run's own."""


class Sources:
    """Makes the teachers and data sets of a sweep's trials.

    Args:
        config: of the sweep.
        root: its folder.
        layout: of the run whose sweep it is.
        executor: who works.
        observer: who watches.
        replan: let interrupted work go on under another engine.
    """

    def __init__(
        self,
        config: Config,
        *,
        root: Folder,
        layout: RunLayout,
        executor: Executor,
        observer: Observer,
        replan: bool,
    ) -> None:
        self._config = config
        self._root = root
        self._own = layout
        self._executor = executor
        self._observer = observer
        self._replan = replan
        self._teachers: dict[str, Folder] = {}

    def make(self, trials: Sequence[Trial]) -> dict[str, Source]:
        """Make every distinct teacher and data set; return them by `source_key`.

        A data set is made where a trial is trained on it: references and baselines alone need none.

        Raises:
            DfshieldError: if one cannot be made; what was done stays.
        """
        groups: dict[str, list[Trial]] = {}
        for trial in trials:
            for one in (*changed_by(trial), trial):
                groups.setdefault(source_key(one.config), []).append(one)
        found: dict[str, Source] = {}
        for key, group in groups.items():
            found[key] = self._source(key, group, found)
        return found

    def _source(self, key: str, trials: Sequence[Trial], known: Mapping[str, Source]) -> Source:
        first = trials[0].config
        changed = [known[source_key(one.config)].data for one in changed_by(trials[0])]
        sizes = {
            name: max(getattr(trial.config.synthesis, name) for trial in trials)
            for name in ("num_images", "num_holdout")
        }
        if self._config.sweep.search.startswith("tpe"):
            axis = self._config.sweep.parameters.get("synthesis.num_images")
            sizes["num_images"] = max([sizes["num_images"], *(axis.ends if axis else ())])
        own = key == source_key(self._config)
        surrogate = any(trial.config.surrogate for trial in trials)
        reference = None if surrogate else first.training.images
        config = first.model_copy(
            update={
                "name": self._config.name if own else f"{self._config.name}-{key}",
                "synthesis": first.synthesis.model_copy(
                    update=sizes | ({"data": changed[0]} if changed else {})
                ),
                "training": self._config.training.model_copy(update={"images": reference}),
                "method": None if surrogate else first.method,
            }
        )
        layout = self._own if own else self._layout(key, config)
        run = Run(
            as_begun(config, chain([layout], self._begun())),
            executor=self._executor,
            observer=self._observer,
            replan=self._replan,
            layout=layout,
        )
        with Lease(layout.root, on_beat=run.context.log.flush):
            run.work([stage.name for stage in STAGES.values() if stage.in_sweep == "shared"])
        self._teachers.setdefault(_teacher_key(config), layout.teacher)
        if not surrogate:
            return Source(layout.teacher.uri, None)
        images = layout.synthetic(config.seed)
        if self._config.training.data is not None:
            folder = expand(self._config.training.data, key="training.data")
            images = SurrogateDataset.open(folder).folder
        return Source(layout.teacher.uri, images.uri, run.context.refs.get(config.seed, {}))

    def _begun(self) -> Iterator[RunLayout]:
        """Give where sets of this sweep may lie: trials are compared on hold-outs of one rule."""
        yield self._own
        for name in self._root.child(SETS).folders():
            yield RunLayout(self._root.child(SETS, name), (self._config.seed,))

    def _layout(self, key: str, config: Config) -> RunLayout:
        """Return where a data set lies that is not the run's own; its teacher may be another's."""
        layout = RunLayout(self._set(key), (config.seed,))
        if _teacher_key(config) == _teacher_key(self._config):
            own = Run(self._config, executor=self._executor, observer=self._observer)
            with Lease(self._own.root):
                own.work(["teacher"])
            return replace(layout, elsewhere={"teacher": self._own.teacher})
        known = self._teachers.get(_teacher_key(config))
        return layout if known is None else replace(layout, elsewhere={"teacher": known})

    def _set(self, key: str) -> Folder:
        """Return the folder of a data set, which an earlier release may have named otherwise."""
        sets = self._root.child(SETS)
        known = [] if sets.exists(key) else sets.list()
        for name, file in (path.split("/", 1) for path in known):
            if file == CONFIG_FILE:
                where = f"{sets}/{name}/{file}"
                tree = parse_yaml(sets.read_bytes(f"{name}/{file}").decode(), where=where)
                if source_key(config_from(tree, where=where)) == key:
                    return sets.child(name)
        return sets.child(key)


def changed_by(trial: Trial) -> list[Trial]:
    """Return the trial of the set that a trial changes, where that is what its method makes."""
    synthesis = trial.config.synthesis
    if synthesis.augment is None or synthesis.data != BY_METHOD or not trial.config.surrogate:
        return []
    update = {"synthesis": without_augment(synthesis)}
    return [replace(trial, config=trial.config.model_copy(update=update))]


def _teacher_key(config: Config) -> str:
    return identity_hash({"teacher": config.teacher.model_dump(mode="json"), "seed": config.seed})
