"""Transfer: images made against one model, tried on another."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from dfshield.attacks.ball import Norm
from dfshield.attacks.base import Attack
from dfshield.attacks.family import ATTACKS, make_attack
from dfshield.attacks.models import identity_of, logits_of, on_device
from dfshield.checks import one_of
from dfshield.classifiers import require_module
from dfshield.errors import InputError


class Transfer(Attack):
    """The adversarial images of another attack, crafted on ``source`` with the true labels.

    The attack on the source is not spared where the source is wrong already, except by what runs
    through pyautoattack (it leaves such images as they are).

    Args:
        source: the model that the images are made against: images in [0, 1] to logits of the same
            classes.
        eps: radius of the ball.
        norm: ``linf`` or ``l2``.
        inner: the attack on the source, by its name in the registry.
        options: the hyper-parameters of that attack.

    Raises:
        InputError: for an unknown inner attack or hyper-parameter, or an inner attack that needs a
            model of its own.
    """

    name = "transfer"
    needs_model = "source"
    needs_gradient = False
    sees_model = False
    independent = False

    def __init__(
        self,
        *,
        source: nn.Module,
        eps: float | int | str,
        norm: Norm = "linf",
        inner: str = "pgd",
        **options: object,
    ) -> None:
        super().__init__(eps=eps, norm=norm)
        one_of(tuple(ATTACKS), inner, "inner")
        if ATTACKS[inner].needs_model is not None:
            raise InputError(f"inner: {inner!r} needs a model of its own; name another attack")
        self.inner = make_attack(inner, eps=eps, norm=norm, **options)
        self.inner.spare_broken = False
        require_module(source, "source")
        self.source = source
        self._identity = identity_of(source)

    def perturb(
        self, model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], *, seed: int
    ) -> Float[Tensor, "n c h w"]:
        """Attack the source, with the images that the model gets right."""
        places = self.still_correct(logits_of(model, x), y)
        x_adv = x.clone()
        source = on_device(self.source, x.device)
        x_adv[places] = self.inner(source, x[places], y[places], seed=seed)
        return x_adv

    @property
    def label(self) -> str:
        """``Transfer (PGD-20)``."""
        return f"Transfer ({self.inner.label})"

    def describe(self) -> dict[str, str | int | float | bool]:
        """Return the name, the inner attack's hyper-parameters, the source's fingerprint or class.

        The inner attack's name stands under ``inner``.
        """
        inner = self.inner.describe()
        return {**inner, **super().describe(), "inner": inner["name"], "source": self._identity}
