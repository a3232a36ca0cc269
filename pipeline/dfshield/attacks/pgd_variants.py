"""PGD on the terms of the training objective, and PGD that may go anywhere."""

from torch import Tensor, nn

from dfshield.attacks.ascent import Ascent, Batch, Objective
from dfshield.attacks.ball import Norm
from dfshield.attacks.gradient import PGD
from dfshield.attacks.models import identity_of, in_float32, logits_of, on_device
from dfshield.checks import one_of
from dfshield.classifiers import frozen, require_module
from dfshield.divergence import kl_divergence
from dfshield.errors import InputError

TERMS = ("a", "b", "c")


class ObjectivePGD(PGD):
    """PGD with terms of the soft-label objective (eq. 11) in place of the cross-entropy.

    With T the teacher, S the attacked model, x the image and x' the adversarial image, it ascends

    - ``a``: ``KL(T(x') || S(x'))``, where the attack moves the teacher too;
    - ``b``: ``KL(T(x) || S(x'))``;
    - ``c``: ``KL(T(x) || S(x')) + KL(S(x) || S(x'))``.

    The paper (tables 21 and 22) names the three, but public copies of it have lost their formulas:
    these are ours, after the terms that the student is trained on. None should beat PGD on the
    cross-entropy.

    Args:
        teacher: T; images in [0, 1] to logits of the same classes.
        eps: radius of the ball.
        terms: ``a``, ``b`` or ``c``.
        leading: which distribution stands first in term (a), ``teacher`` or ``student``.
        num_steps: number of gradient steps.
        step_size: step size; None is ``eps / 4``.
        restarts: runs from different random starts, as :class:`dfshield.attacks.PGD` has them.
        random_start: start uniformly in the ball; otherwise at the image.
        norm: ``linf`` or ``l2``.

    Raises:
        InputError: for a hyper-parameter that makes no sense, naming it; for a teacher of other
            classes when it runs.
    """

    name = "pgd-objective"
    needs_model = "teacher"

    def __init__(
        self,
        *,
        teacher: nn.Module,
        eps: float | int | str,
        terms: str = "b",
        leading: str = "teacher",
        num_steps: int = 10,
        step_size: float | int | str | None = None,
        restarts: int = 1,
        random_start: bool = True,
        norm: Norm = "linf",
    ) -> None:
        super().__init__(
            eps=eps,
            num_steps=num_steps,
            step_size=step_size,
            restarts=restarts,
            random_start=random_start,
            norm=norm,
        )
        self.terms = one_of(TERMS, terms, "terms")
        self.leading = one_of(("teacher", "student"), leading, "leading")
        require_module(teacher, "teacher")
        self.teacher = teacher
        self._identity = identity_of(teacher)

    def _objective(self, model: nn.Module, batch: Batch) -> Objective:
        clean = batch.clean
        teacher = in_float32(on_device(self.teacher, batch.x.device))
        with frozen(teacher):
            taught = logits_of(teacher, batch.x)
        if taught.shape != clean.shape:
            raise InputError(
                f"teacher: has {taught.shape[1]} classes, but the attacked model has "
                f"{clean.shape[1]}"
            )

        def term_a(x_adv: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
            logits = model(x_adv)
            with frozen(teacher):
                moved = teacher(x_adv)
            first, second = (moved, logits) if self.leading == "teacher" else (logits, moved)
            return kl_divergence(first, second, reduction="none"), logits

        def terms_b_c(x_adv: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
            logits = model(x_adv)
            losses = kl_divergence(taught[places], logits, reduction="none")
            if self.terms == "c":
                losses = losses + kl_divergence(clean[places], logits, reduction="none")
            return losses, logits

        return term_a if self.terms == "a" else terms_b_c

    @property
    def label(self) -> str:
        """``PGD-10 on term (b)``."""
        restarts = f" ({self.restarts} restarts)" if self.restarts > 1 else ""
        return f"PGD-{self.num_steps} on term ({self.terms}){restarts}"

    def describe(self) -> dict[str, str | int | float | bool]:
        """Return the name and every hyper-parameter; the teacher's fingerprint or class."""
        described = super().describe()
        del described["loss"]
        return {
            **described,
            "terms": self.terms,
            "leading": self.leading,
            "teacher": self._identity,
        }


class UnboundedPGD(PGD):
    """PGD whose ball, of l_inf radius 1, holds every image there is: it must break all of them.

    Where it does not, gradients are masked (Athalye et al., 2018). It starts at the image, so that
    nothing but the gradient can lead away from it; an image leaves as soon as it is wrong, and the
    attack ends with the last one. Step and number of steps are not given in the paper's table 10.

    Args:
        eps: 1, the radius.
        norm: ``linf``.
        num_steps: gradient steps at most.
        step_size: step size.
        loss: ``ce``, ``cw`` or ``dlr``.

    Raises:
        InputError: for a hyper-parameter that makes no sense, naming it.
    """

    name = "pgd-unbounded"
    norms = ("linf",)

    def __init__(
        self,
        *,
        eps: float | int | str = 1,
        norm: Norm = "linf",
        num_steps: int = 200,
        step_size: float | int | str = "8/255",
        loss: str = "ce",
    ) -> None:
        super().__init__(
            eps=eps,
            norm=norm,
            num_steps=num_steps,
            step_size=step_size,
            loss=loss,
            random_start=False,
        )
        if self.eps != 1:
            raise InputError(f"eps: {eps!r} is a bound: {self.name} has none, so that eps is 1")

    def _ascent(self) -> Ascent:
        return Ascent(
            num_steps=self.num_steps,
            step_size=self.step_size,
            eps=self.eps,
            norm=self.norm,
            leave_when_wrong=True,
        )

    @property
    def label(self) -> str:
        """``PGD, unbounded``."""
        return "PGD, unbounded" if self.loss == "ce" else f"PGD, unbounded ({self.loss.upper()})"

    def describe(self) -> dict[str, str | int | float | bool]:
        """Return the name and every hyper-parameter, ready for JSON."""
        described = super().describe()
        del described["restarts"], described["random_start"]
        return described
