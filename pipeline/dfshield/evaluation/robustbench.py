"""A result in the form in which RobustBench lists models (its ``model_info`` files)."""

from typing import Any

from dfshield.errors import InputError
from dfshield.results import EvaluationResult


def is_robustbench(result: EvaluationResult) -> bool:
    """Return whether a result is what RobustBench lists: AutoAttack, version standard."""
    attack = result.attack or {}
    return attack.get("name") == "autoattack" and attack.get("version") == "standard"


def robustbench_entry(
    clean: EvaluationResult,
    autoattack: EvaluationResult,
    *,
    name: str,
    architecture: str,
    dataset: str | None = None,
    link: str = "",
    authors: str = "",
    venue: str = "N/A",
    additional_data: bool = False,
    reported: str = "",
    footnote: str = "",
) -> dict[str, Any]:
    """Return the fields of RobustBench's ``model_info`` files; accuracies are texts in percent.

    ``unreliable`` is set where AutoAttack's figure cannot be taken for the model's robustness: the
    suite was cut for few classes, AutoAttack warned, the model is randomised or has collapsed, or
    logits were not finite. The footnote says which, and on which images it was measured.

    Args:
        clean: on the same images.
        autoattack: version standard.
        name: of the model, or the title of its paper.
        architecture: such as ``WideResNet-28-10``.
        dataset: None takes the name of the images' data set.
        link: to the paper.
        authors: of the paper.
        venue: of the paper.
        additional_data: whether more than the data set's images trained it.
        reported: the robust accuracy that its authors claim, in percent.
        footnote: to begin with.

    Raises:
        InputError: if the results are not of the same model and images, or not of these attacks.
    """
    same = (clean.model_fingerprint, clean.data) == (autoattack.model_fingerprint, autoattack.data)
    if clean.attack is not None or not is_robustbench(autoattack) or not same:
        raise InputError(
            "a RobustBench entry needs clean images and AutoAttack (standard) on one model and data"
        )
    assert autoattack.eps is not None
    doubts = _doubts(autoattack)
    notes = [footnote, _measured(autoattack), *doubts]
    return {
        "link": link,
        "name": name,
        "authors": authors,
        "additional_data": additional_data,
        "number_forward_passes": 1,
        "dataset": dataset or autoattack.data.name,
        "venue": venue,
        "architecture": architecture,
        "eps": _eps(autoattack.eps),
        "clean_acc": f"{100 * clean.accuracy:.2f}",
        "reported": reported,
        "autoattack_acc": f"{100 * autoattack.accuracy:.2f}",
        "footnote": ". ".join(note for note in notes if note),
        "unreliable": bool(doubts),
    }


def _measured(result: EvaluationResult) -> str:
    """Return the threat model and the images of a result, for people."""
    data = result.data
    norm = {"linf": "Linf", "l2": "L2"}[result.norm or "linf"]
    measured = f"{norm}; {data.num_images} images of {data.name} ({data.split})"
    if data.sampled_from is None:
        return measured
    return f"{measured}, a stratified sample of {data.sampled_from} (seed {data.sample_seed})"


def _doubts(result: EvaluationResult) -> list[str]:
    flags = {
        "the suite was cut for few classes": result.standard_suite is False,
        "the model is randomised": bool(result.randomised),
        "the model returns probabilities instead of logits": bool(result.probabilities),
        "the model has collapsed to one class": result.collapsed,
        "the attack is not adaptive to the test-time defence": result.adaptive is False,
        "logits were not finite": result.non_finite > 0,
        # Its own word; the other notes are ours.
        "AutoAttack warned of the model": any(n.startswith("AutoAttack: ") for n in result.notes),
    }
    return [doubt for doubt, raised in flags.items() if raised]


def _eps(eps: float) -> str:
    numerator = round(eps * 255)
    whole = numerator > 0 and abs(eps * 255 - numerator) < 1e-4
    return f"{numerator}/255" if whole and numerator < 51 else f"{eps:.4g}"
