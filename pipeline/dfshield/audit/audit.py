"""The audit: does anything hide the gradient that the attacks follow?"""

import time
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from dfshield.attacks import Attack, Norm, check_images
from dfshield.audit import attack_checks, defence_checks, model_checks, series_checks
from dfshield.audit.checks import AuditReport, Check, Landscape
from dfshield.audit.defence_checks import Evaluated
from dfshield.audit.landscape import landscape, smooth_loss
from dfshield.audit.subject import Subject, differentiable
from dfshield.checks import at_least
from dfshield.classifiers import Classifier, require_module
from dfshield.defences import Defence
from dfshield.epsilon import parse_epsilon
from dfshield.errors import InputError
from dfshield.evaluation import DataInfo, Images, as_images, data_info, measured_with
from dfshield.seeds import torch_generators, whole_seed

NUM_CHECKS = 16
"""Lines of an audit."""


def audit(
    model: nn.Module,
    images: Images | tuple[Tensor, Tensor],
    *,
    eps: float | int | str,
    norm: Norm = "linf",
    source: nn.Module | None = None,
    defence: Defence | None = None,
    evaluated: Sequence[Attack] = (),
    autoattack: bool = True,
    seed: int = 0,
    slice_size: int = 250,
    label: str = "model",
    data: DataInfo | None = None,
    tell: Callable[[str], None] = lambda _: None,
    on_check: Callable[[Check], None] = lambda _: None,
) -> AuditReport:
    """Go through the checklist for robustness evaluations and return a verdict per line.

    The lines and their reasons are those of Athalye et al. (2018) and Carlini et al. (2019). Every
    attack runs on all images; comparisons are paired (`dfshield.audit.comparison`). Some hundred
    images are enough, fewer than fifty can hardly fail a comparison.

    Args:
        model: maps images in [0, 1] to logits, on any device.
        images: an image set, or a pair of images in [0, 1], (n, c, h, w), and labels, (n,).
        eps: radius of the ball, as a number or ``"8/255"``.
        norm: ``linf`` or ``l2``.
        source: another model of the same images, for transferred attacks; None leaves them out.
        defence: what the model is audited behind; without a source, the model itself is one then.
        evaluated: the attacks whose figures are shown of the model behind the defence.
        autoattack: whether to run AutoAttack, which takes most of the time.
        seed: of everything random.
        slice_size: images attacked at once.
        label: what the report calls the model.
        data: what the report says of the images; None: what they say themselves.
        tell: called with what is done next.
        on_check: called with every line that is done.

    Raises:
        InputError: for images or labels that the model cannot have.
    """
    started = time.perf_counter()
    behind, taken = _behind(model, source, defence, evaluated), as_images(images)
    attacked = behind.defence.wrap(model) if behind else model
    subject = _subject(attacked, taken, norm, seed, slice_size, tell, eps=eps)
    with torch_generators(seed, subject.x.device):  # what a model draws moves no other generator
        checks, around = _checks(subject, source, behind, autoattack, on_check)
    return AuditReport(
        model=label,
        model_fingerprint=model.fingerprint() if isinstance(model, Classifier) else None,
        data=data or data_info(taken),
        norm=norm,
        eps=subject.eps,
        seed=seed,
        checks=checks,
        landscape=around,
        seconds=time.perf_counter() - started,
        versions=measured_with(),
    )


def _behind(
    model: nn.Module,
    source: nn.Module | None,
    defence: Defence | None,
    attacks: Sequence[Attack],
) -> Evaluated | None:
    if source is not None:
        require_module(source, "source")
    if defence is None:
        return None
    require_module(model)
    if not isinstance(defence, Defence):
        raise InputError(f"defence: must be a Defence such as TTE(), but is {defence!r}")
    return Evaluated(defence, attacks, model)


def _subject(
    model: nn.Module,
    images: Images,
    norm: Norm,
    seed: int,
    slice_size: int,
    tell: Callable[[str], None],
    *,
    eps: float | int | str,
) -> Subject:
    require_module(model)
    at_least(1, slice_size, "slice_size")
    whole_seed(seed)
    x, y = images.tensors(slice(None))
    device = next((t.device for t in (*model.parameters(), *model.buffers())), x.device)
    x = check_images(model, x).to(device)
    radius = parse_epsilon(eps)
    if radius == 0:
        raise InputError("eps: 0 leaves nothing to attack: give a radius above 0")
    return Subject(
        differentiable(model, x),
        x,
        y.to(device),
        norm=norm,
        eps=radius,
        seed=seed,
        slice_size=slice_size,
        tell=tell,
    )


def _checks(
    subject: Subject,
    source: nn.Module | None,
    behind: Evaluated | None,
    autoattack: bool,
    on_check: Callable[[Check], None],
) -> tuple[tuple[Check, ...], Landscape]:
    """Return the lines in the order they are read: the model, its loss, the attacks on it."""

    def done(check: Check) -> Check:
        on_check(check)
        return check

    if behind is not None and source is None:
        source = behind.alone
    own = [
        done(model_checks.returns_logits(subject)),
        done(model_checks.deterministic(subject, averaged=bool(behind and behind.averaging))),
        done(model_checks.batch_independent(subject)),
        done(model_checks.gradients(subject)),
    ]
    subject.tell("Loss landscape")
    around = landscape(subject)
    smooth = done(smooth_loss(around))
    attacked = [
        done(attack_checks.single_step(subject)),
        done(series_checks.more_steps(subject)),
        done(series_checks.larger_eps(subject)),
        done(attack_checks.unbounded(subject)),
        done(attack_checks.random_noise(subject)),
        done(attack_checks.losses_agree(subject)),
        done(attack_checks.black_box(subject)),
        done(attack_checks.transfer(subject, source)),
        done(attack_checks.autoattack_gap(subject, wanted=autoattack)),
    ]
    if behind is not None:
        attacked += [
            done(defence_checks.draws_averaged(subject, behind)),
            done(defence_checks.gradient_followed(subject, behind)),
        ]
    # These two look at all that the attacks have found.
    finite = done(model_checks.finite_logits(subject))
    floor = done(model_checks.beats_floor(subject))
    return (finite, *own, floor, smooth, *attacked), around
