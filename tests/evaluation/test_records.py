"""One row per image, the worst case over attacks, and RobustBench's form of a result."""

import numpy as np
import pytest
import torch
from torch import nn

from dfshield.attacks import FGSM, PGD, AutoAttack, make_attack
from dfshield.errors import InputError
from dfshield.evaluation import (
    DataInfo,
    ImageRecords,
    as_images,
    evaluate,
    evaluate_slice,
    evaluate_slices,
    image_records,
    robustbench_entry,
    summarise_worst_case,
    worst_case,
)


def records_of(model, images, attack, **options):
    slices = evaluate_slices(model, as_images(images), attack, slice_size=16, **options)
    return image_records(slices, attack=attack.label)


def margins(model, x, y):
    with torch.no_grad():
        logits = model(x)
    others = logits.masked_fill(nn.functional.one_hot(y, logits.shape[1]).bool(), -torch.inf)
    return (logits[torch.arange(len(y)), y] - others.amax(1)).numpy()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_row_says_what_became_of_its_image(model, images, norm):
    x, y = images
    attack = PGD(eps=0.2, norm=norm, num_steps=3)
    kept = []
    part = evaluate_slice(model, x, y, attack, seed=7, keep=kept.append)
    rows = image_records([part], attack=attack.label)
    (x_adv,) = kept
    assert torch.equal(x_adv, attack(model, x, y, seed=7))
    assert rows.clean_margin == pytest.approx(margins(model, x, y), abs=1e-5)
    assert rows.adversarial_margin == pytest.approx(margins(model, x_adv, y), abs=1e-5)
    order = torch.inf if norm == "linf" else 2
    sizes = torch.linalg.vector_norm((x_adv - x).flatten(1), ord=order, dim=1)
    assert rows.distance == pytest.approx(sizes.numpy(), abs=1e-6)
    assert (rows.clean_margin > 0).tolist() == (rows.clean_prediction == rows.label).tolist()
    wrong = rows.clean_prediction != rows.label
    broken = ~wrong & (rows.adversarial_prediction != rows.label)
    assert wrong.any()
    assert broken.any()
    assert rows.broken_by.tolist() == [
        "clean" if w else "PGD-3" if b else "" for w, b in zip(wrong, broken, strict=True)
    ]
    assert rows.robust.any()


def test_queries_are_the_passes_of_images(model, images):
    x, y = images
    part = evaluate_slice(model, x[:1], y[:1], None, seed=0)
    assert part.queries == (0.0,)
    passes = []
    hook = model.register_forward_pre_hook(lambda _, given: passes.append(len(given[0])))
    attack = FGSM(eps=0.1)
    attack(model, x, y)
    hook.remove()
    assert sum(evaluate_slice(model, x, y, attack, seed=0).queries) == pytest.approx(sum(passes))
    square = make_attack("square", eps=0.3, queries=50)
    counted = square.run(model, x, y, seed=1).queries
    assert evaluate_slice(model, x, y, square, seed=1).queries == tuple(counted.double().tolist())
    assert len(set(counted.tolist())) > 2


def test_rows_survive_a_table(model, images):
    rows = records_of(model, images, PGD(eps=0.1, num_steps=2))
    again = ImageRecords.from_table(rows.to_table())
    assert again.to_table() == rows.to_table()
    with pytest.raises(InputError, match=r"a\.parquet: lacks the columns queries"):
        ImageRecords.from_table(rows.to_table().drop(["queries"]), source="a.parquet")


def test_the_worst_case_is_the_union_of_what_breaks(model, images):
    attacks = [FGSM(eps=0.15), PGD(eps=0.15, num_steps=2)]
    rows = [records_of(model, images, attack) for attack in attacks]
    worst = worst_case(rows)
    assert worst.robust.tolist() == (rows[0].robust & rows[1].robust).tolist()
    first = ~rows[0].robust
    assert worst.broken_by[first].tolist() == rows[0].broken_by[first].tolist()
    second = rows[0].robust & ~rows[1].robust
    assert set(worst.broken_by[second]) <= {"PGD-2"}
    assert worst.queries == pytest.approx(rows[0].queries + rows[1].queries)
    stands = worst.robust
    least = np.minimum(rows[0].adversarial_margin, rows[1].adversarial_margin)
    assert worst.adversarial_margin[stands] == pytest.approx(least[stands])
    results = [evaluate(model, images, attack, slice_size=16) for attack in attacks]
    summary = summarise_worst_case(results, worst)
    assert summary.num_correct == worst.robust.sum() <= min(r.num_correct for r in results)
    assert summary.label == "Worst of 2 attacks"
    assert (summary.norm, summary.eps) == ("linf", 0.15)
    assert summary.seconds == pytest.approx(sum(r.seconds for r in results))


def test_a_worst_case_is_of_one_threat_model_and_the_same_images(model, images):
    x, y = images
    rows = records_of(model, images, FGSM(eps=0.1))
    with pytest.raises(InputError, match="same images"):
        worst_case([rows, records_of(model, (x.flip(0), y.flip(0)), FGSM(eps=0.1))])
    with pytest.raises(InputError, match="no attack"):
        worst_case([])
    results = [evaluate(model, images, FGSM(eps=eps)) for eps in (0.1, 0.2)]
    with pytest.raises(InputError, match="one threat model"):
        summarise_worst_case(results, rows)


class Restless(nn.Module):
    """A model that draws noise for every image."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x + 0.3 * torch.randn_like(x))


def test_a_randomised_model_is_told_apart_and_measured_reproducibly(model, images):
    state = torch.random.get_rng_state()
    restless = Restless(model)
    first, second = (evaluate(restless, images, FGSM(eps=0.1), seed=5) for _ in range(2))
    assert first.randomised is True
    assert any("randomised" in note and "rand" in note for note in first.notes)
    assert second.model_copy(update={"seconds": first.seconds}) == first
    assert torch.equal(state, torch.random.get_rng_state())
    assert evaluate(model, images, None).randomised is False


@pytest.fixture
def listed(model, images):
    """Clean and AutoAttack results of a model that withstands some of it."""
    x, y = images
    few = (x[:20], y[:20])
    return [evaluate(model, few, attack) for attack in (None, AutoAttack(eps="8/255"))]


def test_a_robustbench_entry_has_the_fields_of_its_files(listed):
    clean, auto = listed
    entry = robustbench_entry(clean, auto, name="Mine", architecture="Prototypes", reported="50.00")
    assert set(entry) == {
        "link",
        "name",
        "authors",
        "additional_data",
        "number_forward_passes",
        "dataset",
        "venue",
        "architecture",
        "eps",
        "clean_acc",
        "reported",
        "autoattack_acc",
        "footnote",
        "unreliable",
    }
    assert entry["eps"] == "8/255"
    assert entry["clean_acc"] == f"{100 * clean.accuracy:.2f}"
    assert float(entry["autoattack_acc"]) == pytest.approx(100 * auto.accuracy, abs=0.005)
    assert entry["unreliable"] is False


def test_a_doubtful_entry_says_why(listed):
    clean, auto = listed
    sampled = DataInfo(**{**clean.data.model_dump(), "sampled_from": 500, "sample_seed": 3})
    few, cut = (
        result.model_copy(update={"data": sampled, **more})
        for result, more in ((clean, {}), (auto, {"standard_suite": False}))
    )
    entry = robustbench_entry(few, cut, name="Mine", architecture="Prototypes")
    assert entry["unreliable"] is True
    assert "few classes" in entry["footnote"]
    assert "sample of 500 (seed 3)" in entry["footnote"]
    with pytest.raises(InputError, match="one model and data"):
        robustbench_entry(clean, cut, name="Mine", architecture="Prototypes")
    with pytest.raises(InputError, match="AutoAttack"):
        robustbench_entry(clean, clean, name="Mine", architecture="Prototypes")
