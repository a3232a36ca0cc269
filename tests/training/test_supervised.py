"""Supervised training on the real digits."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from dfshield.classifiers import build
from dfshield.datasets import ImageSet, load_images
from dfshield.errors import DfshieldError
from dfshield.training import train_supervised, validate

FAST = {"batch_size": 32, "learning_rate": 0.01}


def fresh(seed=0):
    return build(
        "dfshield:resnet8", input_shape=(1, 8, 8), num_classes=10, options={"width": 8}, seed=seed
    )


@pytest.fixture(scope="module")
def splits():
    return load_images("digits", split="train"), load_images("digits", split="val")


@pytest.fixture(scope="module")
def trained(splits):
    classifier, epochs = fresh(), []
    kept = train_supervised(classifier, *splits, epochs=8, on_epoch=epochs.append, **FAST)
    return classifier, kept, epochs


def test_real_digits_are_learned_in_a_few_epochs(trained, splits):
    classifier, kept, _ = trained
    assert kept.accuracy > 0.95
    images, labels = splits[1].tensors()
    with torch.no_grad():
        accuracy = (classifier(images).argmax(1) == labels).double().mean().item()
    assert accuracy == pytest.approx(kept.accuracy)  # the weights are those of the kept epoch
    assert not classifier.training


def test_every_epoch_is_reported_and_the_best_by_auc_is_kept(trained, splits):
    classifier, kept, epochs = trained
    assert [metrics.epoch for metrics in epochs] == list(range(8))
    assert epochs[-1].loss < 0.2 * epochs[0].loss
    assert (kept.auc, kept.accuracy) == max((m.auc, m.accuracy) for m in epochs)
    assert validate(classifier, splits[1]) == pytest.approx((kept.accuracy, kept.auc))


def test_an_epoch_that_gets_worse_is_not_kept_unless_the_last_is_asked_for(splits):
    train, validation = splits
    # Validation labels that the training unlearns: each epoch makes their AUC worse.
    reversed_labels = ImageSet(
        pixels=validation.pixels,
        labels=9 - validation.labels,
        class_names=validation.class_names,
        name="reversed",
        split="val",
    )
    small = ImageSet(
        pixels=train.pixels[:300],
        labels=train.labels[:300],
        class_names=train.class_names,
        name="small",
        split="train",
    )
    for select in ("auc", "last"):
        epochs = []
        classifier = fresh()
        kept = train_supervised(
            classifier,
            small,
            reversed_labels,
            epochs=4,
            select=select,
            on_epoch=epochs.append,
            **FAST,
        )
        best = max(epochs, key=lambda m: (m.auc, m.accuracy))
        assert best.epoch < 3
        assert kept == (best if select == "auc" else epochs[-1])
        assert validate(classifier, reversed_labels) == pytest.approx((kept.accuracy, kept.auc))


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_seed_decides(splits, optimizer):
    train, validation = splits
    results = []
    for seed in (0, 0, 1):
        classifier = fresh()
        train_supervised(
            classifier, validation, train, epochs=2, optimizer=optimizer, seed=seed, **FAST
        )
        results.append(classifier.state_dict())
    same, other = (
        all(torch.equal(results[0][name], result[name]) for name in result)
        for result in results[1:]
    )
    assert same
    assert not other


def test_auc_is_scikit_learns_macro_one_vs_rest(splits):
    validation = splits[1]
    classifier = fresh().eval()
    accuracy, auc = validate(classifier, validation, batch_size=64)
    images, labels = validation.tensors()
    with torch.no_grad():
        probabilities = classifier(images).double().softmax(dim=1).numpy()
    expected = roc_auc_score(labels.numpy(), probabilities, multi_class="ovr")
    assert auc == pytest.approx(expected, abs=1e-6)
    assert accuracy == pytest.approx((probabilities.argmax(1) == labels.numpy()).mean())


def test_a_class_that_does_not_occur_is_left_out_of_the_auc(splits):
    validation = splits[1]
    rows = np.flatnonzero(validation.labels != 7)
    without = ImageSet(
        pixels=validation.pixels[rows],
        labels=validation.labels[rows],
        class_names=validation.class_names,
        name="without",
        split="val",
    )
    classifier = fresh().eval()
    _, auc = validate(classifier, without)
    images, labels = without.tensors()
    with torch.no_grad():
        scores = classifier(images).double().softmax(dim=1).numpy()
    classes = [k for k in range(10) if k != 7]
    expected = np.mean([roc_auc_score(labels.numpy() == k, scores[:, k]) for k in classes])
    assert auc == pytest.approx(expected, abs=1e-6)


def test_the_learning_rate_falls_tenfold_at_the_milestones(splits):
    """Plain gradient descent moves the weights in proportion to the rate."""
    small = load_images("digits", split="val")
    moves, previous = [], None
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    nn.init.zeros_(model[1].weight)
    nn.init.zeros_(model[1].bias)

    def on_epoch(_):
        nonlocal previous
        weight = model[1].weight.detach().clone()
        if previous is not None:
            moves.append((weight - previous).norm().item())
        previous = weight

    # Adam's steps have the size of the rate while the gradient keeps its direction.
    train_supervised(model, small, small, epochs=8, batch_size=200, on_epoch=on_epoch)
    # Moves of epochs 1 to 7; the rate falls after epochs 4 and 6.
    assert moves[3] == pytest.approx(0.1 * moves[2], rel=0.15)
    assert moves[5] == pytest.approx(0.1 * moves[4], rel=0.15)
    assert moves[1] == pytest.approx(moves[0], rel=0.15)


@pytest.mark.parametrize(("learning_rate", "batch_size"), [(1e30, 32), (1e30, 2000), (1e10, 2000)])
def test_a_training_that_diverges_is_an_error(splits, learning_rate, batch_size):
    # With one batch per epoch the loss is still finite when the weights no longer are.
    with pytest.raises(DfshieldError, match=r"learning_rate"):
        train_supervised(
            fresh(), *splits, epochs=3, batch_size=batch_size, learning_rate=learning_rate
        )
