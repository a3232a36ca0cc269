"""The audit of a model: the checklist, kept as JSON, as a page and as pictures."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfshield.attacks import Attack
from dfshield.canonical import identity_hash
from dfshield.config import Config
from dfshield.defences import Defence
from dfshield.runs.context import RunContext
from dfshield.runs.driver.evaluate import planned_attacks
from dfshield.runs.execution.protocol import Worker
from dfshield.runs.identity import keys_of
from dfshield.runs.inputs.classifier_folder import describe, load_classifier
from dfshield.runs.inputs.defences import defence_identity, made_defence
from dfshield.runs.inputs.evaluation_images import located_images, real_images
from dfshield.runs.inputs.training_overlap import disclosed
from dfshield.runs.work.measuring import Subject
from dfshield.storage import Folder

if TYPE_CHECKING:  # it is not for `--help`
    from dfshield.audit import AuditReport


@dataclass(frozen=True)
class AuditJob:
    """Audits one model; picklable.

    Attributes:
        config: names the images, their number and the threat model.
        name: what the report calls the model.
        model: its folder.
        surrogate: the folder of the model that transferred attacks are made with, or None.
        seed: of the audit.
        defence: what the model is audited behind, or None.
        evaluated: the attacks of its evaluation, for their labels and settings.
    """

    config: Config
    name: str
    model: str
    surrogate: str | None
    seed: int
    defence: Defence | None
    evaluated: tuple[Attack, ...]

    def run(self, worker: Worker) -> "AuditReport":
        """Load models and images, and go through the list."""
        from dfshield.audit import audit

        classifier = load_classifier(Folder.at(self.model), device=worker.device)
        source = None
        if self.surrogate is not None:
            source = load_classifier(Folder.at(self.surrogate), device=worker.device)
        images = real_images(self.config, classifier, num_images=self.config.audit.num_images)
        return audit(
            classifier,
            images.images,
            eps=self.config.threat.eps,
            norm=self.config.threat.norm,
            source=source,
            defence=self.defence,
            evaluated=self.evaluated,
            autoattack=self.config.audit.autoattack,
            seed=self.seed,
            slice_size=self.config.evaluation.slice_size,
            label=self.name,
            data=images.info,
            tell=worker.monitor.detail,
            on_check=lambda _: worker.monitor.advance(1.0),
        )


def audit_model(context: RunContext, seed: int, subject: Subject) -> "tuple[AuditReport, Folder]":
    """Audit a model, unless that has been done, and return the report and where it lies.

    ``NAME.json`` is the report, ``NAME.html`` the page, ``NAME-landscape.png`` and
    ``NAME-curves.png`` its pictures; NAME is the model's with a hash of what the report depends on.

    Raises:
        InputError: if images are not configured, missing, or do not fit the model.
    """
    from dfshield.audit import NUM_CHECKS, NUM_DEFENCE_CHECKS, AuditReport

    config, folder = context.config, context.layout.audit(seed)
    images = real_images(config, subject.architecture, num_images=config.audit.num_images)
    info = disclosed(config, images, context.observer).info
    defence, evaluated = None, tuple[Attack, ...]()
    if config.audit.defence is not None:
        defence = made_defence(config.audit.defence, subject.classifier, key="audit.defence")
        subject = subject.behind(defence)
        evaluated = tuple(plan.preview() for plan in planned_attacks(context, subject))
    surrogate = subject.surrogate
    identity = {
        "model_fingerprint": subject.fingerprint,
        "surrogate": None if surrogate is None else describe(surrogate).fingerprint,
        "data": images.info.identity(),
        "threat": keys_of(config.threat, ("norm", "eps")),
        "autoattack": config.audit.autoattack,
        "seed": seed,
        "slice_size": config.evaluation.slice_size,
        **defence_identity(defence),
        **({} if defence is None else {"evaluated": [a.identity() for a in evaluated]}),
    }
    name = f"{subject.name}-{identity_hash(identity)[:8]}"
    if folder.exists(f"{name}.json"):
        text = folder.read_bytes(f"{name}.json").decode(errors="replace")
        report = AuditReport.from_json(text, source=f"{folder}/{name}.json")
        if info.remarks and report.data != info and report.data.trained_on is None:
            report = report.model_copy(update={"data": info})
            _write(folder, name, report)
        return report, folder.child(name)
    job = AuditJob(
        located_images(config, subject.architecture),
        subject.name,
        subject.folder.uri,
        None if surrogate is None else surrogate.uri,
        seed,
        defence,
        evaluated,
    )
    engine, total = context.executor.engine(), NUM_CHECKS
    total += 0 if defence is None else NUM_DEFENCE_CHECKS
    context.observer.begin(f"Audit, {subject.name}", total=total, done=0, unit="checks")
    report = context.executor.run(job, engine=engine, monitor=context.monitor)
    context.observer.end()
    report = report.model_copy(update={"data": info})
    _write(folder, name, report)
    context.log.emit("audited", seed=seed, model=subject.name, verdict=report.verdict)
    return report, folder.child(name)


def _write(folder: Folder, name: str, report: "AuditReport") -> None:
    from dfshield.report import curves_figure, landscape_figure, render_audit

    shown = report.model_dump(mode="json")
    landscape, curves = landscape_figure(shown), curves_figure(shown)
    page = render_audit(shown, landscape=landscape, curves=curves)
    folder.write_bytes(f"{name}.html", page.encode())
    folder.write_bytes(f"{name}-landscape.png", landscape[0])
    folder.write_bytes(f"{name}-curves.png", curves[0])
    folder.write_bytes(f"{name}.json", f"{report.to_json()}\n".encode())
