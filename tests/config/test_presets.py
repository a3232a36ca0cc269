"""Presets: the published settings, and what our own presets change of them."""

import pytest

from dfshield.config import PRESETS, config_from
from dfshield.runs.savings import times_fewer


def with_preset(preset, source="medmnist:resnet18", **sections):
    teacher = {"source": source, "weights": "weights.pt"}
    return config_from({"name": "run", "preset": preset, "teacher": teacher, **sections})


# The table of presets in methods.md, section I.
@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize(
    ("family", "threat", "synthesis"),
    [
        ("cifar10", ("linf", "4/255", "1/255"), (60_000, 2000, "per_batch")),
        ("cifar100", ("linf", "4/255", "1/255"), (60_000, 2000, "per_batch")),
        ("svhn", ("linf", "4/255", "1/255"), (60_000, 2000, "per_batch")),
        ("medical", ("linf", "8/255", "2/255"), (10_000, 1000, "random")),
        ("l2", ("l2", "128/255", "15/255"), (60_000, 2000, "per_batch")),
    ],
)
def test_presets_are_the_published_settings(variant, family, threat, synthesis):
    config = with_preset(f"{variant}/{family}")
    assert (config.threat.norm, config.threat.eps, config.threat.step_size) == threat
    made = config.synthesis
    assert (made.num_images, made.method.iterations, made.method.labels) == synthesis
    assert made.method.name == "dss"
    assert (made.batch_size, made.method.learning_rate, made.method.jitter) == (200, 0.1, 2)
    drawn = made.method.coefficients
    assert (drawn["rule"], drawn["class_scale"], drawn["feature_scale"]) == ("code", 1, 1)
    training = config.training
    assert (training.learning_rate, training.momentum, training.nesterov) == (1e-4, 0.9, True)
    assert training.weight_decay == 1e-4
    assert training.inner.num_steps == 10
    assert (training.objective.lambda1, training.objective.lambda2) == (1, 1)
    assert (training.gradrefine.num_batches, training.gradrefine.tau) == (20, 0.5)
    assert training.select == "last"


@pytest.mark.parametrize(
    ("preset", "source", "epochs", "batch_size", "temperature", "reduction"),
    [
        ("paper/cifar10", "pytorchcv:resnet20_cifar10", 200, 200, 1, "batchmean"),
        ("paper/cifar100", "pytorchcv:wrn28_10_cifar100", 100, 200, 1, "batchmean"),
        ("paper/svhn", "pytorchcv:resnet56_svhn", 100, 200, 1, "batchmean"),
        ("paper/l2", "dfshield:resnet20", 200, 200, 1, "batchmean"),
        ("paper/medical", "medmnist:resnet18", 200, 200, 1, "batchmean"),
        ("paper/medical", "medmnist:resnet50", 100, 200, 1, "batchmean"),
        ("official/cifar10", "pytorchcv:resnet20_cifar10", 200, 200, 20, "mean"),
        ("official/svhn", "pytorchcv:resnet56_svhn", 200, 200, 20, "mean"),
        ("official/medical", "medmnist:resnet18", 100, 128, 1, "mean"),
        ("official/medical", "medmnist:resnet50", 100, 128, 1, "mean"),
    ],
)
def test_paper_and_code_differ_where_they_do(
    preset, source, epochs, batch_size, temperature, reduction
):
    training = with_preset(preset, source).training
    assert (training.epochs, training.batch_size) == (epochs, batch_size)
    assert training.objective.temperature == temperature
    assert training.objective.reduction == reduction


@pytest.mark.parametrize(
    ("family", "source", "epochs"),
    [
        ("cifar10", "pytorchcv:resnet20_cifar10", 200),
        ("svhn", "pytorchcv:wrn28_10_svhn", 100),
        ("medical", "medmnist:resnet50", 100),
        ("l2", "dfshield:resnet20", 200),
    ],
)
def test_robust_is_the_paper_with_three_ingredients(family, source, epochs):
    paper, robust = (with_preset(f"{name}/{family}", source) for name in ("paper", "robust"))
    training = robust.training
    assert training.epochs == epochs
    assert (training.objective.lambda1, training.objective.lambda2) == (0.1, 1)
    assert training.average.model_dump() == {"name": "ema", "decay": 0.99}
    assert training.weight_perturbation == 0.005
    kept = ("objective", "average", "weight_perturbation")
    same = training.model_copy(update={key: getattr(paper.training, key) for key in kept})
    assert robust.model_copy(update={"preset": paper.preset, "training": same}) == paper
    assert "Evidence pending" in PRESETS[f"robust/{family}"]


@pytest.mark.parametrize(
    ("family", "iterations", "eps"),
    [("cifar10", 400, "4/255"), ("medical", 200, "8/255"), ("l2", 400, "128/255")],
)
def test_fast_is_the_paper_with_less_work(family, iterations, eps):
    paper, fast = (with_preset(f"{name}/{family}") for name in ("paper", "fast"))
    assert fast.synthesis.method.options["iterations"] == iterations
    assert paper.synthesis.method.options["iterations"] == 5 * iterations
    rates = {key: fast.synthesis.method.options[key] for key in ("learning_rate", "schedule")}
    assert rates == {"learning_rate": 0.3, "schedule": "cosine"}
    inner = fast.training.inner
    assert (inner.start, inner.num_steps, inner.step_size) == ("kept", 1, eps)
    assert fast.training.learning_rate == pytest.approx(3 * paper.training.learning_rate)
    kept = ("inner", "learning_rate", "schedule")
    same = fast.training.model_copy(update={key: getattr(paper.training, key) for key in kept})
    changes = {"preset": paper.preset, "training": same, "synthesis": paper.synthesis}
    assert fast.model_copy(update=changes) == paper
    assert times_fewer(fast, "synthesize") == 5
    assert times_fewer(fast, "train") == 3  # of 2 · 10 + 7 passes 2 · 1 + 7 are left
    assert times_fewer(paper, "train") == 1


@pytest.mark.parametrize("preset", PRESETS)
def test_what_the_file_says_wins_over_the_preset(preset):
    config = with_preset(preset, training={"epochs": 7}, threat={"eps": "1/255"})
    assert config.training.epochs == 7
    assert config.threat.eps == "1/255"
    assert config.training.batch_size == with_preset(preset).training.batch_size
    trades = with_preset(preset, training={"objective": {"name": "trades"}})
    assert trades.training.objective.model_dump() == {"name": "trades", "beta": 6.0}
