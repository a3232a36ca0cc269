"""Making the student by a baseline, in place of surrogate images and their training."""

from dfshield.baselines import BASELINES
from dfshield.runs.context import RunContext
from dfshield.runs.driver.teacher import load_teacher
from dfshield.runs.driver.train import files_of, student_is_done, trained_student, training_identity
from dfshield.runs.execution.engine_choice import resumed_engine
from dfshield.runs.inputs.baseline import begun_baseline
from dfshield.runs.inputs.classifier_folder import load_classifier
from dfshield.runs.names import STAGE_FILE
from dfshield.runs.records import claim, finish
from dfshield.runs.work.baseline import BaselineJob, baseline_checkpoint


def make_baseline_student(context: RunContext, seed: int) -> None:
    """Train the student and its generator, going on from the last checkpoint.

    It is one job of one worker, whatever the cluster has: four baselines are four runs, or trials
    of a sweep, which share its workers.

    Args:
        context: the run; its ``replan`` lets a training that was begun under another engine go on
            under this machine's.
        seed: which of its seeds.

    Raises:
        InputError: if the method cannot be used with the teacher, or the student in the run folder
            has another identity or engine.
    """
    if student_is_done(context, seed):
        trained_student(context, seed)  # refuses other settings
        return
    config, folder = context.config, context.layout.student(seed)
    assert config.method is not None
    begun_baseline(config, load_teacher(context), seed=seed)  # what is wrong shows before any work
    record = claim(folder, training_identity(context, seed))
    engine = context.executor.engine()
    checkpoint = baseline_checkpoint(folder)
    if checkpoint.exists() and "engine" in record:
        engine = resumed_engine(engine, record["engine"], where=folder, replan=context.replan)
    record = {**record, "engine": engine.to_json()}
    folder.write_json(STAGE_FILE, record)
    folder.sweep_temporary()  # what a killed process was writing
    _tell(context, config.method.name)
    job = BaselineJob(config, seed, context.layout.teacher.uri, folder.uri, engine)
    told = context.executor.run(job, engine=engine, monitor=context.monitor)
    student = load_classifier(folder)
    finish(folder, record, *files_of(record), fingerprint=student.fingerprint(), baseline=told)
    checkpoint.delete()
    context.log.emit("training_done", seed=seed)


def _tell(context: RunContext, method: str) -> None:
    """Say what is unusual about a method, and that other workers have no part in its training."""
    unusual, num_workers = BASELINES[method].unusual, context.executor.num_workers()
    if unusual:
        context.observer.say(f"Note: {unusual}")
    if num_workers > 1:
        context.observer.say(
            f"Note: {method} trains generator and student in one worker of {num_workers}: each "
            "step needs the one before; a sweep over methods or seeds uses them all"
        )
