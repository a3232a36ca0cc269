"""What a trial would be refused for because of its images, told before any student is trained."""

from collections.abc import Iterable, Mapping

from dfshield.canonical import identity_hash
from dfshield.runs.driver.training_source import images_of_training, reference_images
from dfshield.runs.inputs.classifier_folder import describe
from dfshield.runs.inputs.evaluation_images import real_images
from dfshield.runs.inputs.real_data import require_there
from dfshield.runs.inputs.reference_images import KEY as REFERENCE
from dfshield.runs.sweep.plan import Trial, source_key
from dfshield.runs.sweep.trial import Source
from dfshield.storage import Folder, SurrogateDataset

Sources = Mapping[str, Source]


def check_surrogates(trials: Iterable[Trial], sources: Sources) -> None:
    """Refuse a K larger than an epoch of surrogate images, where the data set tells.

    Raises:
        InputError: naming the key.
    """
    sets = {
        key: SurrogateDataset.open(source.data)
        for key, source in sources.items()
        if source.data is not None
    }
    for trial in trials:
        if trial.config.surrogate:
            images_of_training(trial.config, sets[source_key(trial.config)])


def require_references(trials: Iterable[Trial]) -> None:
    """Refuse real images to train on that are nowhere, before anything is made for their teacher.

    Raises:
        InputError: naming the key.
    """
    for trial in trials:
        reference = trial.config.training.images
        if reference is not None:
            require_there(reference.data, key=REFERENCE)


def check_references(trials: Iterable[Trial], sources: Sources) -> None:
    """Refuse real images to train on that do not fit, or are measured on. They are read for it.

    Raises:
        InputError: naming the key.
    """
    for trial in _one_of_each(trials):
        if not trial.config.data_free:
            teacher = Folder.at(sources[source_key(trial.config)].teacher)
            reference_images(trial.config, describe(teacher).architecture)


def check_measured(trials: Iterable[Trial], sources: Sources) -> None:
    """Refuse test images that do not fit.

    Raises:
        InputError: naming the key.
    """
    seen = set()
    for trial in trials:
        evaluation, source = trial.config.evaluation, sources[source_key(trial.config)]
        key = (source.teacher, identity_hash(evaluation.model_dump(mode="json")))
        if evaluation.data is not None and key not in seen:
            takes = describe(Folder.at(source.teacher)).architecture
            real_images(trial.config, takes, num_images=evaluation.num_images)
            seen.add(key)


def _one_of_each(trials: Iterable[Trial]) -> Iterable[Trial]:
    """Return the trials without those that differ from another in their seed alone."""
    return {identity_hash(dict(trial.values)): trial for trial in trials}.values()
