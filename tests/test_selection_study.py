"""The study of hold-out measures: its statistics by hand, and a rehearsal that resumes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent / "benchmarks"


@pytest.fixture
def ranking(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import selection_ranking

    return selection_ranking


def students(ranking, rows):
    """Students of one seed: clean and robust accuracy, and the figures a and holdout/clean."""
    return [
        ranking.Student(
            name=str(place),
            seed=0,
            clean=clean,
            robust=robust,
            works=clean > 0.5,
            collapsed=collapsed,
            figures={"a": a, "holdout/clean": agreeing},
        )
        for place, (clean, robust, a, agreeing, collapsed) in enumerate(rows)
    ]


ROWS = [
    (0.9, 0.30, 0.3, 0.9, False),
    (0.8, 0.40, 0.4, 0.8, False),
    (0.6, 0.35, 0.5, 0.5, False),
    (0.1, 0.10, 0.9, 0.1, True),
]


def test_correlations_and_regrets_are_those_by_hand(ranking):
    found = ranking.standing(ranking.Candidate(("a",)), students(ranking, ROWS))
    # Robust ranks 2, 4, 3, 1 against 1, 2, 3, 4: 1 - 6 (1 + 4 + 0 + 9) / (4 · 15).
    assert found.spearman == pytest.approx(-0.4)
    # Of 6 pairs 2 agree: (0, 1) and (0, 2).
    assert found.kendall == pytest.approx(-2 / 6)
    # Of those that work: ranks 1, 3, 2 against 1, 2, 3.
    assert found.spearman_works == pytest.approx(0.5)
    # A collapsed student is never chosen, though its figure is the highest.
    assert found.regret == pytest.approx(0.05)
    # Under the bound only the first keeps its clean agreement, and its clean accuracy.
    assert found.regret_bound == pytest.approx(0.0)


def test_products_and_rank_sums(ranking):
    four = students(ranking, ROWS)
    product = ranking.Candidate(("a", "holdout/clean")).scores(four)
    assert product == pytest.approx([0.27, 0.32, 0.25, 0.09])
    assert list(ranking.Candidate(("a", "holdout/clean"), ranks=True).scores(four)) == [5, 5, 5, 5]


def test_one_rule_is_taken_of_those_that_lose_little(ranking):
    def standing(works, regret):
        return ranking.Standing(works, works, works, works, regret, regret)

    table = {
        "one": {"good": standing(0.8, 0.02), "lossy": standing(0.9, 0.1), "none": standing(None, 0)}
    }
    assert ranking.best_rule(table) == "good"


@pytest.mark.drill
def test_a_rehearsal_fixes_its_rule_first_and_measures_nothing_twice(tmp_path):
    command = [sys.executable, BENCHMARKS / "selection.py", "--small", "--out", tmp_path]
    command += ["--seeds", "1"]

    def call(*more):
        return subprocess.run([*command, *more], capture_output=True, text=True, check=False)

    early = call("--only", "digits-narrow")
    assert early.returncode == 2
    assert "no rule is fixed yet: measure digits-lambda first" in early.stderr
    done = call()
    assert done.returncode == 0, done.stderr
    rule = (tmp_path / "rule.json").read_text()
    assert set(json.loads(rule)["chosen_on"]) == {"digits-lambda"}
    for family in ("digits-lambda", "digits-narrow"):
        told = json.loads((tmp_path / f"{family}.json").read_text())
        assert len(told["students"]) == 4
        assert all(0 <= s["robust"] <= s["clean"] <= 1 for s in told["students"])
        assert told["rule"] == json.loads(rule)["rule"]
        assert {"holdout/kl", "A on holdout × holdout/mixtures"} <= set(told["measures"])
    files = {path: path.read_bytes() for path in (tmp_path / "figures").rglob("*.json")}
    assert len(files) == 8
    assert call().returncode == 0
    assert {path: path.read_bytes() for path in files} == files
    assert (tmp_path / "rule.json").read_text() == rule
