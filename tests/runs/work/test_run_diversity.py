"""How diverse the surrogate images are: in the synthesis's record, in status and on the page."""

import json
import re
from typing import ClassVar

import pytest
import torch
from tiny_run import call, events, run_of, stamps, succeed, write_config

from dfshield.config import config_from
from dfshield.diversity import DIVERSITY, NearDuplicates, PredictionEntropy
from dfshield.diversity.base import DiversityMetric, Quantity
from dfshield.errors import InputError
from dfshield.storage import SurrogateDataset

BOTH = "synthesis.diversity=[prediction-entropy, {name: near-duplicates, threshold: 0.3}]"


def recorded(run):
    return json.loads((run / "synthetic" / "stage.json").read_text())["summary"]["diversity"]


def told(run):
    """The text of the run's page."""
    page = (run / "report" / "index.html").read_text()
    return " ".join(re.sub(r"<[^>]+>", " ", page).replace("&nbsp;", " ").split())


def images_of(run):
    data = SurrogateDataset.open(run / "synthetic").load()
    return {"images": data.images, "labels": data.labels, "logits": data.teacher_logits}


def test_it_is_measured_once_with_the_images_and_shown_by_status_and_page(tiny):
    config = tiny(keep=("teacher",))
    run = run_of(config)
    succeed("synthesize", config, BOTH)
    sample = images_of(run)
    entropy, near = PredictionEntropy(), NearDuplicates(threshold=0.3)
    assert recorded(run) == [
        {"metric": DIVERSITY.describe(entropy), "num_images": 80, "values": entropy(**sample)},
        {"metric": DIVERSITY.describe(near), "num_images": 80, "values": near(**sample)},
    ]
    state = json.loads(succeed("status", run, "--json").out)
    assert state["seeds"][0]["synthesize"]["diversity"] == recorded(run)
    before = stamps(run / "synthetic")
    succeed("run", config, BOTH)
    assert stamps(run / "synthetic") == before
    shown = told(run)
    values = entropy(**sample)
    for name, quantity in entropy.quantities.items():
        assert f"{quantity.title} {values[name]:.3f} nats" in shown
    share = 100 * near(**sample)["near_duplicates"]
    assert f"Near-duplicates (threshold 0.3) {share:.1f} %" in shown.replace("\xa0", " ")
    assert "all images" in shown


def test_it_is_no_part_of_what_the_images_are(tiny):
    config = tiny()
    run = run_of(config)
    assert [entry["metric"]["name"] for entry in recorded(run)] == ["prediction-entropy"]
    before = stamps(run / "synthetic"), stamps(run / "student")
    last = len(events(run))
    for other in (BOTH, "synthesis.diversity=[]"):
        succeed("run", config, other)
        assert (stamps(run / "synthetic"), {**stamps(run / "student"), **before[1]}) == before
        assert ("Near-duplicates" in told(run)) == (other == BOTH)
        assert ("nats" in told(run)) == (other == BOTH)
    assert {event["event"] for event in events(run)[last:]} == {"report"}


def test_the_first_images_are_measured_where_a_metric_takes_no_more(tiny):
    config = tiny(keep=("teacher",))
    run = run_of(config)
    few = "synthesis.diversity=[{name: prediction-entropy, num_images: 30}]"
    succeed("run", config, few)
    (entry,) = recorded(run)
    first = {key: column[:30] for key, column in images_of(run).items()}
    assert (entry["num_images"], entry["values"]) == (30, PredictionEntropy()(**first))
    assert "the first 30 images" in told(run)


def test_a_set_that_grows_is_measured_again(tiny):
    config = tiny()
    run = run_of(config)
    small = recorded(run)
    succeed("synthesize", config, "synthesis.num_images=120")
    (entry,) = recorded(run)
    assert entry["num_images"] == 120
    assert entry["values"] == PredictionEntropy()(**images_of(run)) != small[0]["values"]


def test_a_run_of_an_earlier_release_stays_as_it_is_and_its_page_has_it(tiny):
    config = tiny()
    run = run_of(config)
    file = run / "synthetic" / "stage.json"
    record = json.loads(file.read_text())
    (entry,) = record["summary"].pop("diversity")
    file.write_text(json.dumps(record))
    before = stamps(run / "synthetic")
    succeed("run", config)
    assert stamps(run / "synthetic") == before
    assert f"{entry['values']['mean_entropy']:.3f} nats" in told(run)


@pytest.mark.parametrize("metrics", [BOTH, "synthesis.diversity=[]"])
def test_images_that_no_file_holds_are_measured_in_memory(tiny, metrics):
    config = tiny(keep=("teacher",), storage__sink="object_store")
    run = run_of(config)
    succeed("run", config, metrics)
    assert len(recorded(run)) == (2 if metrics == BOTH else 0)
    assert ("Near-duplicates (threshold 0.3)" in told(run)) == (metrics == BOTH)
    # Another metric cannot be had now, and is left out.
    succeed("report", config, "synthesis.diversity=[near-duplicates]")
    assert "Near-duplicates" not in told(run)


class Labels(DiversityMetric):
    """How many labels there are."""

    name = "labels"
    quantities: ClassVar = {"labels": Quantity("Labels", "labels", "as many as there are classes")}

    def measure(self, *, labels, logits, images, features):
        return {"labels": float(len(torch.unique(labels)))}


def test_a_new_metric_is_one_class(tiny, monkeypatch):
    monkeypatch.setitem(DIVERSITY._variants, "labels", Labels)
    assert DIVERSITY.listing()["labels"]["summary"] == "How many labels there are."
    config = tiny(keep=("teacher",), synthesis__diversity=[{"name": "labels", "num_images": 40}])
    succeed("run", config)
    run = run_of(config)
    assert recorded(run) == [
        {
            "metric": {"name": "labels", "num_images": 40},
            "num_images": 40,
            "values": {"labels": float(len(torch.unique(images_of(run)["labels"][:40])))},
        }
    ]
    assert "Labels 2.000 labels as many as there are classes; the first 40 images" in told(run)


def test_a_damaged_record_is_measured_anew_for_the_page(tiny):
    config = tiny()
    file = run_of(config) / "synthetic" / "stage.json"
    record = json.loads(file.read_text())
    for damage in (7, [7], [{"metric": {}}], [{**record["summary"]["diversity"][0], "values": 3}]):
        file.write_text(json.dumps({**record, "summary": {"diversity": damage}}))
        succeed("report", config)
        assert "Entropy of the mean prediction" in told(run_of(config))


MINIMAL = {"name": "run", "teacher": {"source": "medmnist:resnet18", "weights": "weights.pt"}}


@pytest.mark.parametrize(
    ("diversity", "said"),
    [
        (["prediction-entrpy"], "0.name: diversity metric 'prediction-entrpy' is unknown: did you"),
        (
            ["prediction-entropy", {"name": "near-duplicates", "treshold": 0.1}],
            "1.treshold: is no option of near-duplicates: did you mean 'threshold'?",
        ),
        ([{"name": "near-duplicates", "threshold": 0.0}], "0.threshold: 0.0 must be a number"),
        ([{"name": "near-duplicates", "num_images": 0}], "0.num_images: 0 must be a whole"),
    ],
)
def test_what_is_wrong_is_named_by_its_whole_path(diversity, said):
    with pytest.raises(InputError) as caught:
        config_from({**MINIMAL, "synthesis": {"diversity": diversity}})
    assert str(caught.value).startswith(f"config: synthesis.diversity.{said}")
    assert "\n" not in str(caught.value)


def test_nothing_is_begun_with_a_metric_that_there_is_not(tmp_path):
    config = write_config(tmp_path, synthesis__diversity=["intra"])
    line = call("run", config).refusal()
    assert "synthesis.diversity.0.name: diversity metric 'intra' is unknown" in line
    assert not (tmp_path / "runs" / "tiny" / "teacher").exists()
