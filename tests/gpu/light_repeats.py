"""First light, stage ``repeats``: the same bytes twice, resumed, in a fresh process; and TF32."""

import copy
import io
import warnings

import torch
from stage import Stage
from subjects import (
    bound,
    digest,
    error_of,
    ieee,
    images_of,
    inversion,
    milliseconds,
    network,
    training,
)


def repeats(stage: Stage) -> None:
    """Make images and a student twice, and once in two halves."""
    device = bound(stage)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        of_images(stage, device)
        of_students(stage, device)
    told = {str(w.message).splitlines()[0][:200] for w in caught}
    stage.note(warnings=sorted(told))
    stage.expect("nothing is told to be nondeterministic", not any("determin" in t for t in told))
    stage.attempt("tf32", lambda: of_tf32(stage, device))


def in_a_fresh_process(stage: Stage) -> None:
    """Make them once more."""
    device = bound(stage)
    again = digest([made_images(stage, device)])
    stage.expect("images of a fresh process", again == stage.figures["images"])
    again = digest(trained(stage, device)["student"].values())
    stage.expect("a student of a fresh process", again == stage.figures["student"])


def made_images(stage: Stage, device: torch.device, **options: object) -> torch.Tensor:
    made = inversion(network(stage.sizes).to(device), stage.sizes.iterations)
    return made.synthesize(seed=3, batch=1, size=stage.sizes.batch, **options).images


def of_images(stage: Stage, device: torch.device) -> None:
    kept = io.BytesIO()

    def keep(done: int, state: object) -> None:
        if done == stage.sizes.iterations // 2:
            torch.save(state(), kept)

    once, twice = made_images(stage, device), made_images(stage, device, on_iteration=keep)
    kept.seek(0)
    state = torch.load(kept, weights_only=False)
    halved = made_images(stage, device, resume=state)
    stage.note(images=digest([once]))
    stage.expect("images twice", torch.equal(once, twice))
    stage.expect("images resumed", torch.equal(once, halved))


def trained(
    stage: Stage, device: torch.device, state: dict | None = None, updates: int = 4
) -> dict:
    """Return the state of a training after so many updates of two mini-batches."""
    batch = max(2, stage.sizes.batch // 4)
    images = images_of(stage.sizes, 1)
    trainer = training(network(stage.sizes).to(device), images, batch=batch, num_batches=2)
    if state is not None:
        trainer.load_state_dict(state)
    while trainer.updates_done < updates:
        trainer.step()
    return trainer.state_dict()


def of_students(stage: Stage, device: torch.device) -> None:
    once, twice = (trained(stage, device)["student"] for _ in range(2))
    half = copy.deepcopy(trained(stage, device, updates=2))
    halved = trained(stage, device, half)["student"]
    stage.note(student=digest(once.values()))
    stage.expect("a student twice", digest(once.values()) == digest(twice.values()))
    stage.expect("a student resumed", digest(once.values()) == digest(halved.values()))


def of_tf32(stage: Stage, device: torch.device) -> dict[str, object]:
    """Return the error of a gradient on the pixels against float64, and what it costs."""
    teacher = network(stage.sizes).requires_grad_(False)
    exact = gradient(stage, teacher.double(), torch.float64, device)
    teacher = network(stage.sizes).requires_grad_(False)
    found: dict[str, object] = {}
    for name in ("ieee", "tf32"):
        ieee(tf32=name == "tf32")

        def compute() -> torch.Tensor:
            return gradient(stage, teacher, torch.float32, device)

        found[f"{name}_error"] = error_of(compute(), exact)
        found[f"{name}_ms"] = milliseconds(compute, device, rounds=stage.sizes.rounds)
    ieee()
    stage.expect("an IEEE gradient is exact to 1e-4", found["ieee_error"] < 1e-4)
    return found


def gradient(
    stage: Stage, teacher: torch.nn.Module, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(stage.sizes.batch, *stage.sizes.shape, generator=generator)
    images = images.to(device, dtype).requires_grad_()
    labels = torch.arange(stage.sizes.batch, device=device) % 10
    loss = torch.nn.functional.cross_entropy(teacher.to(device).network(images), labels)
    (found,) = torch.autograd.grad(loss, [images])
    return found
