"""A run of somebody who has no test images: it ends with what is known, and says what is not."""

import json
import re
import shlex
import shutil
from html import unescape

import pytest
import yaml
from tiny_run import TINY, call, changed, contents, events, run_of, stamps, succeed, write_config

import dfshield
from dfshield.config import load_config
from dfshield.runs import Run
from dfshield.unmeasured import UNMEASURED

WITHOUT = changed(TINY)
del WITHOUT["evaluation"]["data"]
DIGITS = "evaluation.data.name=digits"
PATH = "evaluation.data.path"
MADE = ("teacher", "synthetic", "student")


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A configuration without test images whose run is done, and what the command said."""
    config = write_config(tmp_path_factory.mktemp("without"), WITHOUT)
    return config, succeed("run", config)


@pytest.fixture
def copied(ended, tmp_path):
    """The configuration of a copy of that run, in which ``keep`` is kept."""

    def make(*keep, **changes):
        config = write_config(tmp_path, WITHOUT, **changes)
        for part in keep or ("",):
            shutil.copytree(run_of(ended[0]) / part, run_of(config) / part, dirs_exist_ok=True)
        return config

    return make


def as_text(content):
    """A page or a card without tags, entities and line breaks."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", content)).replace("\xa0", " ").split())


def page_of(config):
    return as_text((run_of(config) / "report" / "index.html").read_text())


def card_of(config):
    return (run_of(config) / "student" / "README.md").read_text()


def percent(share):
    return f"{100 * share:.1f}"


def made(config):
    """What the teacher, the images and the student are, apart from the card."""
    return {
        (part, name): stamp
        for part in MADE
        for name, stamp in stamps(run_of(config) / part).items()
        if name != "README.md"
    }


def test_the_run_ends_with_what_is_known_and_what_is_not(ended):
    config, answer = ended
    *_, last = events(run_of(config), "epoch")
    assert f"{last['agreement_clean']:.1%}" in answer.out
    assert f"{last['agreement_pgd']:.1%}" in answer.out
    assert "epoch 2, 20 images" in answer.out
    assert answer.out.count(UNMEASURED) == 1
    assert answer.out.index(UNMEASURED) > answer.out.index("└")  # after the table
    assert "evaluation.data names no images" in answer.err
    assert not (run_of(config) / "evaluation").exists()


def test_page_and_card_hold_the_figures_that_the_run_recorded(ended):
    config, _ = ended
    epochs = events(run_of(config), "epoch")
    updates = events(run_of(config), "update")
    summary = json.loads((run_of(config) / "synthetic/summary/shard-00000.json").read_text())
    page, card = page_of(config), as_text(card_of(config))
    assert page.count(UNMEASURED) == 1
    assert card.count(UNMEASURED) == 1
    *_, last = epochs
    clean, robust = percent(last["agreement_clean"]), percent(last["agreement_pgd"])
    assert f"answers like the teacher on {clean} % , under PGD on {robust} %" in page
    assert f"epoch 2 of 2 {clean} of 20 images {robust} " in page
    assert f"gives the teacher's answer on {clean} %" in card
    assert f"in 4 updates, from a loss of {updates[0]['loss']:.3f}" in card
    for epoch in epochs:
        clean, robust = percent(epoch["agreement_clean"]), percent(epoch["agreement_pgd"])
        most = percent(max(epoch["histogram"]) / 20)
        kept = epoch is last
        assert f"{epoch['epoch'] + 1} {'kept ' if kept else ''}{clean} {robust} {most}" in page
        row = f"| {epoch['epoch'] + 1}{' (kept)' if kept else ''} | {clean} % | {robust} % |"
        assert f"{row} {most} %" in card
    for text in (page, card):
        assert f"{percent(summary['teacher_agreement'])} %" in text
        assert "dfshield report config.yaml" in text
    assert "Accuracy, teacher and student" not in page
    head = yaml.safe_load(card_of(config).split("---\n")[1])
    assert not {"metrics", "model-index"} & head.keys()


def test_json_and_status_say_it(ended):
    config, _ = ended
    before = made(config)
    told = json.loads(succeed("run", config, "--json").out)
    assert made(config) == before
    assert told["results"] == []
    assert told["status"]["remarks"] == [UNMEASURED]
    (of_seed,) = told["status"]["seeds"]
    assert of_seed["real_images_measured"] is False
    *_, last = events(run_of(config), "epoch")
    figures = ("epoch", "agreement_clean", "agreement_pgd", "histogram", "collapsed")
    assert of_seed["train"]["holdout"] == {key: last[key] for key in figures}
    status = succeed("status", run_of(config))
    assert UNMEASURED in status.out
    assert f"under PGD {last['agreement_pgd']:.1%}" in " ".join(status.out.replace("│", "").split())


def test_what_needs_real_images_says_what_to_add_and_changes_nothing(ended):
    config, _ = ended
    before = contents(run_of(config))
    for command in ("evaluate", "audit"):
        line = call(command, config).refusal()
        assert "evaluation.data: no real images are named" in line
        assert "evaluation.data.name=folder evaluation.data.path=PATH" in line
    line = call("evaluate", config, "evaluation.data.path=/nowhere").refusal()
    assert "evaluation.data.name" in line
    line = call("run", config, DIGITS, "evaluation.data.path=/nowhere").refusal()
    assert "evaluation.data.path: /nowhere" in line
    assert contents(run_of(config)) == before


def test_the_other_commands_do_without(ended, tmp_path):
    config, _ = ended
    checks = json.loads(call("doctor", config, "--json").out)
    (images,) = (check for check in checks if check["name"] == "test images")
    assert images["verdict"] == "warning"
    assert "what synthetic images tell" in images["told"]
    shown = tmp_path / "shown.yaml"
    shown.write_text(succeed("config", "show", config).out)
    before = made(config)
    succeed("train", shown)  # the same teacher, images and student
    assert made(config) == before
    succeed("verify", run_of(config))
    assert dfshield.load(run_of(config) / "student").num_classes == 10


def test_images_that_come_later_are_measured_and_nothing_is_made_again(ended, copied, tmp_path):
    config = copied()
    before, happened = made(config), len(events(run_of(config)))
    # As the card says, and then as the end of the output says.
    saved = tmp_path / "config.yaml"
    shown = yaml.safe_load(re.search(r"```yaml\n(.*?)```", card_of(config), re.DOTALL)[1])
    saved.write_text(yaml.safe_dump(changed(shown, storage__path=str(tmp_path / "runs"))))
    (command,) = re.findall(r"dfshield evaluate (.*)", card_of(config))
    file, *data = shlex.split(command)
    assert (file, data) == ("config.yaml", ["evaluation.data.name=folder", f"{PATH}=PATH"])
    answer = succeed("evaluate", saved, DIGITS)
    assert "PGD-3" in answer.out
    assert UNMEASURED not in answer.out
    (command,) = re.findall(r"and then: dfshield report (.*)", ended[1].out)
    assert shlex.split(command) == [str(ended[0])]
    assert UNMEASURED not in succeed("report", config).out  # which still names no images
    page, card = page_of(config), as_text(card_of(config))
    told = json.loads(succeed("run", config, DIGITS, "--json").out)
    assert told["status"]["remarks"] == []
    accuracies = {(r["model"], r["label"]): percent(r["accuracy"]) for r in told["results"]}
    assert len(accuracies) == 4
    for text in (page, card, page_of(config)):
        assert UNMEASURED not in text
        assert accuracies["student", "PGD-3"] in text
    assert "model-index" in card
    assert "On 20 images that were synthesised" in card
    assert made(config) == before
    new = {event["event"] for event in events(run_of(config))[happened:]}
    assert new == {"unit_started", "unit_done", "evaluated", "report"}


def test_seeds_from_python_have_a_row_each_and_the_best_epoch(ended, copied):
    data = str(run_of(ended[0]) / "synthetic")
    config = copied("teacher", seeds=[0, 1], training__select="holdout", training__data=data)
    run = Run(load_config(config))
    run.run()
    assert run.results == {}
    best = []
    for seed in (0, 1):
        epochs = [e for e in events(run_of(config), "epoch") if e["seed"] == seed]
        best.append(max(epochs, key=lambda epoch: epoch["agreement_pgd"]))
        figures = [percent(best[-1][key]) for key in ("agreement_clean", "agreement_pgd")]
        kept = f"epoch {best[-1]['epoch'] + 1} of 2"
        assert f"seed {seed} {kept} {figures[0]} of 20 images {figures[1]}" in page_of(config)
    mean = sum(epoch["agreement_pgd"] for epoch in best) / 2
    assert f"{percent(mean)} ± " in page_of(config)

    succeed("evaluate", config, DIGITS, "evaluation.attacks=[]")
    shutil.rmtree(run_of(config) / "seed-1" / "evaluation")
    said = f"Seed 1: {UNMEASURED}"
    answer = succeed("report", config)
    assert said in answer.out
    assert said in page_of(config)
    assert f"{best[1]['agreement_pgd']:.1%}" in answer.out
    assert "seed 0" not in answer.out
    cards = [run_of(config) / f"seed-{seed}" / "student" / "README.md" for seed in (0, 1)]
    assert [UNMEASURED in card.read_text() for card in cards] == [False, True]


def test_without_a_holdout_only_the_curves_are_known(copied):
    config = copied("teacher", synthesis__num_holdout=0, storage__sink="object_store")
    answer = succeed("run", config)
    assert "no hold-out" in answer.out
    assert UNMEASURED in answer.out
    assert "Without a synthetic hold-out" in page_of(config)
    assert "there was no synthetic hold-out" in card_of(config)
    assert "4 updates" in card_of(config)
    succeed("run", config, DIGITS, "evaluation.attacks=[]")
    begun = events(run_of(config), "synthesis_started", "training_started")
    assert [event["event"] for event in begun] == ["synthesis_started", "training_started"]
    assert UNMEASURED not in page_of(config)
