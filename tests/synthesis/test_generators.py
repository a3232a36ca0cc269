"""Qimera and RDSKD: their losses from the formulas in float64, their fits, what is sampled."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from formulas import softmax, statistics_of

from dfshield.errors import DfshieldError, InputError
from dfshield.seeds import RngStream, generator
from dfshield.synthesis import RDSKD, GeneratorNetwork, Qimera
from dfshield.synthesis.generated import collapsed
from dfshield.synthesis.generator_network import new_network
from dfshield.synthesis.qimera import draw_superpositions, soft_class_loss, superposed_codes
from dfshield.synthesis.rdskd import balance_loss, certainty_loss, chosen_for, likeness_loss

SMALL = {
    "qimera": Qimera(fit_iterations=6, fit_batch_size=12, latent=8, width=4),
    "rdskd": RDSKD(epochs=3, iterations_per_epoch=2, fit_batch_size=12, latent=8, width=4),
}
every = pytest.mark.parametrize("method", SMALL.values(), ids=SMALL)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (2, 7, 5)])
@pytest.mark.parametrize("num_classes", [0, 2, 100])
def test_the_network_makes_images_of_any_size(shape, num_classes):
    network = GeneratorNetwork(6, shape, num_classes=num_classes, width=4)
    images = network(torch.randn(3, 6, generator=torch.Generator().manual_seed(0)))
    assert images.shape == (3, *shape)
    assert images.min() >= 0
    assert images.max() <= 1
    assert images.std() > 0.1
    rows = None if network.embedding is None else network.embedding.weight.shape
    assert rows == ((num_classes, 6) if num_classes else None)


def test_its_weights_come_from_the_seed_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, same, other = (new_network(4, (1, 8, 8), seed=s, width=4) for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.dense.weight, same.dense.weight)
    assert not torch.equal(one.dense.weight, other.dense.weight)


def superpositions(labels, **changes):
    given = {"num_classes": 5, "num_superposed": 3, "share": 0.4, "latent": 4}
    return draw_superpositions(np.random.default_rng(0), labels, **{**given, **changes})


def test_superpositions_are_of_different_classes_and_the_label_weighs_most():
    labels = np.arange(2000) % 5
    mixed = superpositions(labels)
    assert np.array_equal(mixed.classes[:, 0], labels)
    assert all(len(set(row)) == 3 for row in mixed.classes.tolist())
    np.testing.assert_allclose(mixed.weights.sum(1), 1, atol=1e-12)
    assert (np.diff(mixed.weights, axis=1) <= 0).all()
    superposed = mixed.weights[:, 0] < 1
    assert superposed.mean() == pytest.approx(0.4, abs=0.04)
    # The largest of three softmax weights of standard normals, by a simulation of its own.
    powers = np.exp(np.random.default_rng(9).standard_normal((20000, 3)))
    largest = (powers.max(1) / powers.sum(1)).mean()
    assert mixed.weights[superposed, 0].mean() == pytest.approx(largest, abs=0.02)
    targets = mixed.targets(5).numpy()
    assert np.array_equal(targets.argmax(1), labels)
    assert ((targets > 0).sum(1) == np.where(superposed, 3, 1)).all()


def test_codes_and_the_soft_loss_are_those_of_the_formulas():
    rng = np.random.default_rng(1)
    embedding, mixed = rng.normal(size=(5, 4)), superpositions(np.array([3, 0, 4, 4]), share=0.9)
    expected = np.zeros((4, 4))
    for i, m in np.ndindex(mixed.classes.shape):
        code = embedding[mixed.classes[i, m]] + mixed.noise[i, m]
        code = (code - code.mean()) / np.sqrt(code.var() + 1e-5)
        expected[i] += mixed.weights[i, m] * code
    codes = superposed_codes(torch.from_numpy(embedding).float(), mixed)
    np.testing.assert_allclose(codes.numpy(), expected, atol=1e-5)
    logits, targets = rng.normal(size=(4, 5)), mixed.targets(5).double()
    found = soft_class_loss(torch.from_numpy(logits), targets)
    assert found.item() == pytest.approx(
        -(targets.numpy() * np.log(softmax(logits))).sum(1).mean(), rel=1e-12
    )


def test_the_losses_of_rdskd_are_those_of_the_formulas():
    rng = np.random.default_rng(2)
    images, logits = rng.random((7, 1, 4, 4)), 3 * rng.normal(size=(7, 5))
    p = softmax(logits)
    mean = p.mean(0)
    tensors = torch.from_numpy(images), torch.from_numpy(logits)
    assert certainty_loss(tensors[1]).item() == pytest.approx(-np.log(p.max(1)).mean(), rel=1e-12)
    assert balance_loss(tensors[1]).item() == pytest.approx((mean * np.log(mean)).sum(), rel=1e-12)
    apart = np.linalg.norm(images[:3] - images[3:6])
    expected = np.linalg.norm(p[:3] - p[3:6]) / apart
    assert likeness_loss(*tensors).item() == pytest.approx(expected, rel=1e-6)
    one_sided = torch.tensor([[200.0, 0.0], [200.0, 0.0]])  # a class without probability
    assert balance_loss(one_sided) == 0


def test_a_step_of_qimera_has_the_losses_of_its_images(tiny_teacher):
    options = SMALL["qimera"]
    found = options.fit(tiny_teacher, seed=3).step()
    network = new_network(8, tiny_teacher.input_shape, seed=3, num_classes=3, width=4)
    draw = generator(3, RngStream.GENERATOR, 1)
    mixed = options.superpositions(draw, draw.integers(3, size=12), network)
    with torch.no_grad():
        images = network.train()(superposed_codes(network.embedding.weight, mixed))
        normalised = tiny_teacher.normalise(images)
        logits = tiny_teacher.network(normalised).double().numpy()
    of_classes = -(mixed.targets(3).numpy() * np.log(softmax(logits))).sum(1).mean()
    of_features = statistics_of(tiny_teacher.network, normalised)
    assert found["loss_class"] == pytest.approx(of_classes, rel=1e-4)
    assert found["loss_feature"] == pytest.approx(of_features, rel=1e-4)
    assert found["loss"] == pytest.approx(of_classes + 0.1 * of_features, rel=1e-4)


def test_rdskd_compares_with_the_epoch_before(tiny_teacher):
    fit = SMALL["rdskd"].fit(tiny_teacher, seed=0)
    steps = [fit.step() for _ in range(6)]
    moving = np.array([[s["loss_certainty"], s["loss_balance"]] for s in steps])
    before = [moving[0], moving[:2].mean(0), moving[2:4].mean(0)]
    for t, step in enumerate(steps):
        expected = np.exp(moving[t] - before[t // 2]).sum() + step["loss_likeness"]
        assert step["loss"] == pytest.approx(expected, rel=1e-5)


@every
@pytest.mark.parametrize("stop_after", [1, 4])
def test_a_fit_that_goes_on_equals_one_that_never_stopped(tiny_teacher, method, stop_after):
    whole, stopped = (method.fit(tiny_teacher, seed=0) for _ in range(2))
    losses = [whole.step() for _ in range(whole.steps)]
    for _ in range(stop_after):
        stopped.step()
    state = copy.deepcopy(stopped.state_dict())
    for _ in range(2):  # going on does not use the state up
        going_on = method.fit(tiny_teacher, seed=0)
        going_on.load_state_dict(state)
        assert going_on.steps_done == stop_after
        rest = [going_on.step() for _ in range(going_on.steps - stop_after)]
        assert rest == losses[stop_after:]
        for name, values in going_on.weights().items():
            assert torch.equal(values, whole.weights()[name]), name


@every
def test_the_teacher_is_left_as_it_was(tiny_teacher, method):
    tiny_teacher.train().requires_grad_(True)
    before = tiny_teacher.fingerprint()
    with torch.no_grad():  # a fit needs gradients, wherever it is called
        method.fit(tiny_teacher, seed=0).step()
    assert tiny_teacher.fingerprint() == before
    assert tiny_teacher.training
    assert all(p.grad is None and p.requires_grad for p in tiny_teacher.parameters())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in tiny_teacher.modules())


def sampler(method, teacher, change=lambda weights: None):
    weights = method.fit(teacher, seed=0).weights()
    change(weights)
    return method.with_weights(weights).bind(teacher)


@every
def test_a_batch_is_the_same_whatever_is_made_with_it_or_before(tiny_teacher, method):
    bound = sampler(method, tiny_teacher)
    alone = bound.synthesize(seed=7, batch=3, size=5)
    others, again = bound.synthesize_batches(seed=7, batches=[0, 3], size=5)
    assert torch.equal(again.images, alone.images)
    assert torch.equal(again.labels, alone.labels)
    assert not torch.equal(others.images, alone.images)
    assert {k: v.dtype.name for k, v in alone.record.items()} == dict(method.columns)
    assert alone.images.min() >= 0
    assert alone.images.max() <= 1
    holdout = bound.synthesize(seed=7, batch=3, size=5, stream=RngStream.HOLDOUT)
    assert not torch.equal(holdout.images, alone.images)


def test_labels_of_qimera_are_those_that_are_asked_for(tiny_teacher):
    bound = sampler(SMALL["qimera"], tiny_teacher)
    holdout = bound.synthesize(seed=0, batch=0, size=9, stream=RngStream.HOLDOUT)
    assert torch.bincount(holdout.labels).tolist() == [3, 3, 3]
    weight = bound.synthesize(seed=0, batch=0, size=200).record["label_weight"]
    assert (weight == 1).mean() == pytest.approx(0.6, abs=0.1)
    assert weight.min() > 0.5  # of two classes, the heavier


def test_labels_of_rdskd_are_those_that_the_teacher_gives(tiny_teacher):
    bound = sampler(SMALL["rdskd"], tiny_teacher)
    for stream in (RngStream.SYNTHESIS, RngStream.HOLDOUT):
        made = bound.synthesize(seed=0, batch=0, size=6, stream=stream)
        with torch.no_grad():
            assert torch.equal(tiny_teacher(made.images).argmax(1), made.labels)


def test_the_holdout_of_rdskd_is_balanced_as_far_as_it_can_be():
    labels = np.array([2, 0, 0, 2, 1, 0, 0, 2])
    assert chosen_for(np.array([0, 2, 0, 1]), labels).tolist() == [1, 0, 2, 4]
    chosen = chosen_for(np.array([1, 1, 0, 3]), labels)
    assert chosen.tolist() == [4, 0, 1, 2]  # what no candidate has takes any that is left


def test_embeddings_of_the_teacher_are_the_rows_of_its_last_layer_and_stay(tiny_teacher):
    method = Qimera(fit_iterations=2, fit_batch_size=4, width=4, embeddings="teacher")
    fit = method.fit(tiny_teacher, seed=0)
    fit.step()
    rows = tiny_teacher.network[-1].weight
    assert torch.equal(fit.weights()["embedding.weight"], rows)
    made = method.with_weights(fit.weights()).bind(tiny_teacher)
    assert made.synthesize(seed=0, batch=0, size=3).images.shape == (3, 2, 6, 5)
    with pytest.raises(InputError, match="layer: the model has no 'fc'"):
        Qimera(embeddings="teacher", layer="fc").fit(tiny_teacher, seed=0)


def test_more_classes_than_there_are_cannot_be_superposed(tiny_teacher):
    with pytest.raises(InputError, match="num_superposed: 4, but the teacher has 3 classes"):
        Qimera(num_superposed=4).fit(tiny_teacher, seed=0)


@every
def test_weights_of_another_generator_are_refused(tiny_teacher, method):
    with pytest.raises(InputError, match="weights: are not those of this generator"):
        sampler(method, tiny_teacher, lambda weights: weights.pop("dense.bias"))


# ---------------------------------------------------------------- collapse


def constant(weights):
    weights["last.0.weight"].zero_()


def not_a_number(weights):
    weights["dense.bias"].fill_(float("nan"))


@every
def test_a_generator_that_has_collapsed_is_named_with_its_batch(tiny_teacher, method):
    with pytest.raises(DfshieldError, match=r"batch 4: the generator has collapsed: all 5 images"):
        sampler(method, tiny_teacher, constant).synthesize(seed=0, batch=4, size=5)
    with pytest.raises(DfshieldError, match="batch 4: the synthesizer made pixels that are not"):
        sampler(method, tiny_teacher, not_a_number).synthesize(seed=0, batch=4, size=5)


@every
@pytest.mark.parametrize(
    ("change", "said"),
    [(constant, "step 2 .* it has collapsed: all 12 images are equal"), (not_a_number, "is nan")],
)
def test_a_fit_that_collapses_is_named_with_its_step(tiny_teacher, method, change, said):
    fit = method.fit(tiny_teacher, seed=0)
    fit.step()
    state = fit.state_dict()
    change(state["network"])
    fit.load_state_dict(state)
    with pytest.raises(DfshieldError, match=said):
        fit.step()
    assert fit.steps_done == 1


def test_images_are_equal_within_half_a_step_of_8_bits():
    images = torch.full((3, 1, 2, 2), 0.5)
    assert collapsed(images)
    images[1, 0, 0, 0] += 0.4 / 255
    assert collapsed(images)
    images[1, 0, 0, 0] += 0.2 / 255
    assert not collapsed(images)
    assert not collapsed(images[:1])


@pytest.mark.parametrize("name", SMALL)
def test_the_teacher_recognises_what_the_generator_makes(digits_teacher, name):
    method = {
        "qimera": Qimera(fit_iterations=60, fit_batch_size=50, latent=16, width=16),
        "rdskd": RDSKD(
            epochs=3,
            iterations_per_epoch=20,
            fit_batch_size=50,
            learning_rate=0.01,
            latent=16,
            width=16,
        ),
    }[name]
    fit = method.fit(digits_teacher, seed=0)
    losses = [fit.step() for _ in range(fit.steps)]
    made = method.with_weights(fit.weights()).bind(digits_teacher)
    batch = made.synthesize(seed=0, batch=0, size=100)
    with torch.no_grad():
        logits = digits_teacher(batch.images)
    if name == "qimera":
        assert losses[-1]["loss"] < 0.6 * losses[0]["loss"]
        assert (logits.argmax(1) == batch.labels).double().mean() > 0.6
    else:
        last = np.mean([step["loss_certainty"] for step in losses[-10:]])
        assert last < 0.8 * losses[0]["loss_certainty"]
        assert losses[-1]["loss_balance"] < losses[0]["loss_balance"]  # nearer to -ln 10
        assert len(batch.labels.unique()) > 7
    assert F.softmax(logits, 1).amax(1).mean() > 0.5
