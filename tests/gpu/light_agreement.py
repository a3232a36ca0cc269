"""First light, stage ``agreement``: the GPU against the CPU, in IEEE float32, on real digits."""

import warnings
from collections.abc import Callable

import torch
from attack_table import CASES, quick
from stage import Stage, told
from subjects import bound, error_of, ieee, inversion, training, weights_of
from torch import Tensor

from dfshield import load
from dfshield.attacks import perturbation_norm
from dfshield.classifiers import Classifier, build, save
from dfshield.datasets import load_images
from dfshield.training import train_supervised

CPU = torch.device("cpu")
RADII = {"linf": 0.1, "l2": 1.0}


def computing(stage: Stage) -> None:
    """Train a teacher of digits; then a few iterations of its inversion, and one update."""
    device = bound(stage)
    ieee()
    train = load_images("digits", split="train")
    teacher = build("dfshield:resnet8", input_shape=(1, 8, 8), num_classes=10, options={"width": 8})
    kept = train_supervised(
        teacher,
        train,
        load_images("digits", split="val"),
        epochs=stage.sizes.teacher_epochs,
        batch_size=64,
        learning_rate=0.01,
    )
    stage.note(teacher_accuracy=kept.accuracy)
    save(teacher, stage.folder / "teacher")
    stage.attempt("inversion", lambda: of_inversion(stage, device))
    images, _ = train.tensors(slice(0, 8 * stage.sizes.digits))
    stage.attempt("update", lambda: of_update(stage, images, device))


def teacher_on(stage: Stage, device: torch.device) -> Classifier:
    return load(stage.folder / "teacher", device=device)


def of_inversion(stage: Stage, device: torch.device) -> dict[str, float]:
    cpu, gpu = (
        inversion(teacher_on(stage, where), 5).synthesize(seed=0, batch=0, size=stage.sizes.digits)
        for where in (CPU, device)
    )
    difference = (gpu.images - cpu.images).abs()
    loss = float(cpu.record["loss_total"])
    found = {
        "loss_difference": abs(float(gpu.record["loss_total"]) - loss) / abs(loss),
        "pixels_that_differ": float((difference > 1e-3).float().mean()),
        "largest_difference": float(difference.max()),
    }
    # Adam's first steps go by the sign: a pixel whose gradient is next to zero may go astray.
    stage.expect("losses of the inversion agree", found["loss_difference"] < 1e-3)
    stage.expect("pixels of the inversion agree", found["pixels_that_differ"] < 0.01)
    return found


def of_update(stage: Stage, images: Tensor, device: torch.device) -> dict[str, float]:
    records, weights = [], []
    for where in (CPU, device):
        student = teacher_on(stage, where)
        before = weights_of(student)
        trainer = training(student, images, batch=stage.sizes.digits, num_batches=4)
        records.append(trainer.step())
        weights.append(weights_of(student))
    cpu, gpu = records
    found = {
        "loss_difference": abs(gpu.loss - cpu.loss) / abs(cpu.loss),
        "agreement_rates": [cpu.agreement_rate, gpu.agreement_rate],
        "step_difference": error_of(weights[1] - before, weights[0] - before),
    }
    stage.expect("losses of the update agree", found["loss_difference"] < 1e-2)
    stage.expect(
        "agreement rates of the update agree", abs(gpu.agreement_rate - cpu.agreement_rate) < 0.02
    )
    stage.expect("steps of the update agree", found["step_difference"] < 0.1)
    return found


def attacks(stage: Stage) -> None:
    """Attack digits on both, by every attack there is."""
    device = bound(stage)
    ieee()
    x, y = load_images("digits", split="test").tensors(slice(0, stage.sizes.digits))
    found: dict[str, object] = {}
    for name, norm in CASES:
        if norm not in stage.sizes.norms:
            continue
        key = f"{name} {norm}"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found[key] = of_attack(
                    stage, lambda other, n=name, o=norm: attack(n, o, other), x, y
                )
        except Exception as error:  # noqa: BLE001
            found[key] = told(error)
            stage.expect(key, any(extra in str(error) for extra in ("foolbox", "optuna")))
        stage.note(attacks=found, device_of_attacks=str(device))


def attack(name: str, norm: str, other: Classifier):
    return quick(name, norm, other=other, eps=RADII[norm])


def of_attack(
    stage: Stage, make: Callable[[Classifier], object], x: Tensor, y: Tensor
) -> dict[str, float]:
    accuracies, made = [], []
    for where in (CPU, torch.device(stage.device)):
        model = teacher_on(stage, where)
        attack = make(model)
        images, labels = x.to(where), y.to(where)
        x_adv = attack(model, images, labels, seed=0)
        with torch.no_grad():
            accuracies.append(float((model(x_adv).argmax(1) == labels).float().mean()))
        size = float(perturbation_norm(x_adv - images, attack.norm).max())
        in_ball = size <= attack.eps + 1e-5 and 0 <= float(x_adv.min()) <= float(x_adv.max()) <= 1
        stage.expect(f"{attack.label} {attack.norm}: in the ball", in_ball)
        made.append(x_adv.cpu())
    stage.expect(
        f"{attack.label} {attack.norm}: as strong", abs(accuracies[0] - accuracies[1]) < 0.08
    )
    same = (made[0] - made[1]).abs().flatten(1).amax(1) < 1e-3
    return {"cpu": accuracies[0], "gpu": accuracies[1], "same_images": float(same.float().mean())}
