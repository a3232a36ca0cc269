"""The contract of the test-time defences: a classifier goes in, a defended one comes out."""

from abc import ABC, abstractmethod
from typing import ClassVar, final

from torch import nn

from dfshield.attacks import Attack, in_float32
from dfshield.classifiers import require_module
from dfshield.families import Variant


class Defence(Variant, ABC):
    """A test-time defence: ``defence.wrap(model)`` answers in place of the model.

    A subclass writes :meth:`around`, and keeps its options as attributes of the same names. The
    two flags say how the wrapped model has to be attacked: a defence is only as good as the attack
    that knows of it.

    Attributes:
        randomised: whether it draws random numbers at every forward pass. It is then attacked over
            the mean of several draws (EOT), by AutoAttack's version ``rand``.
        differentiable: whether its gradient is that of what it computes. Otherwise attacks that
            follow the gradient overrate it, and results say so.
        bpda: what stands in for the gradient of one that is not differentiable, such as
            ``identity`` (BPDA, Athalye et al. 2018); None if nothing does.
    """

    randomised: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    bpda: ClassVar[str | None] = None

    @final
    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the model behind the defence, in the mode that the model is in.

        Args:
            model: maps images in [0, 1], (n, c, h, w), to logits, (n, k); it normalises inside.

        Returns:
            A module of the same contract. Its parameters and buffers are the model's, not copies
            of them, and its own, if it has any.

        Raises:
            InputError: for what is no module, or a model whose images the defence cannot take; the
                message then begins with the option to change.
        """
        require_module(model)
        defended = self.around(in_float32(model))
        defended.training = model.training
        return defended

    def remarks(self, attack: Attack | None) -> list[str]:
        """Return what has to be said of a figure under an attack on a wrapped model.

        Args:
            attack: None for clean images.
        """
        if self.differentiable or attack is None or not attack.needs_gradient:
            return []
        return [
            f"the gradient through {self.name} is not that of what it computes: attacks that "
            "follow it overrate the defence; those that only ask for answers do not"
        ]

    @property
    def leaks(self) -> bool:
        """Whether it was fitted to test images, so that figures on these flatter it."""
        return False

    def contents(self) -> dict[str, str]:
        """Return what stands for the content of options that name files, by option.

        Names and identities of results have these instead of paths.
        """
        return {}

    @abstractmethod
    def around(self, model: nn.Module) -> nn.Module:
        """Return the module that answers in place of ``model``, which returns a tensor of logits.

        Raises:
            InputError: as :meth:`wrap` does.
        """
