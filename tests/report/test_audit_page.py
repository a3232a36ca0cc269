"""The page of an audit, and its pictures."""

from io import BytesIO

import pytest
from PIL import Image

from dfshield.errors import InputError
from dfshield.report import curves_figure, landscape_figure, render_audit


def line(key, verdict="pass", **evidence):
    return {
        "key": key,
        "title": f"Title of {key}",
        "verdict": verdict,
        "finding": f"finding <of> {key}",
        "evidence": evidence,
        "source": "Somebody (2020)",
    }


def audited(**verdicts):
    steps = line("more-steps", steps=[1, 10, 100], accuracy=[0.9, 0.5, 0.4])
    radii = line("larger-eps", eps=[0.1, 0.2], accuracy=[0.5, 0.1])
    return {
        "model": "mine & yours",
        "model_fingerprint": "ab" * 32,
        "data": {"name": "digits", "split": "test", "num_images": 60, "fingerprint": "cd" * 32},
        "norm": "linf",
        "eps": 8 / 255,
        "seed": 4,
        "checks": [
            steps,
            radii,
            line("floor", floor=0.1),
            *(line(key.replace("_", "-"), verdict) for key, verdict in verdicts.items()),
        ],
        "landscape": {
            "positions": [-1.0, 0.0, 1.0],
            "surface": [[0.1, 0.2, 0.4], [0.1, 0.3, 0.5], [0.2, 0.3, 0.6]],
            "line_positions": [-1.0, 0.0, 1.0],
            "along_gradient": [[0.1, 0.2, 0.5], [0.0, 0.1, 0.2]],
            "along_random": [[0.1, 0.1, 0.1], [0.2, 0.1, 0.2]],
            "gradient_agreement": [0.9, 0.8],
        },
        "seconds": 12.0,
        "versions": {"torch": "2"},
    }


def test_the_page_says_what_fails_and_needs_no_network():
    page = render_audit(audited(black_box="fail", noise="warn", transfer="not run"))
    assert "1 of 6 lines fail" in page
    assert "black-box" in page
    assert "finding &lt;of&gt; black-box" in page
    assert "mine &amp; yours" in page
    assert "l_inf 8/255" in page
    assert "default-src 'none'" in page
    assert 'src="http' not in page
    assert page.count("data:image/png;base64,") == 4
    assert "Somebody (2020)" in page


def test_a_page_without_a_failure_claims_no_robustness():
    page = render_audit(audited(noise="warn"))
    assert "no line fails" in page
    assert "no proof of robustness" in page
    assert 'class="alarm"' not in page


@pytest.mark.parametrize("draw", [landscape_figure, curves_figure])
def test_pictures_repeat_themselves_and_differ_with_the_data(draw):
    report = audited()
    pictures = draw(report)
    assert all(Image.open(BytesIO(picture)).width > 500 for picture in pictures)
    assert draw(report) == pictures
    assert pictures[0] != pictures[1]
    report["checks"][0]["evidence"]["accuracy"][1] = 0.8
    report["landscape"]["surface"][1][1] = 0.9
    assert not set(draw(report)) & set(pictures)


def test_a_report_that_lacks_a_field_is_refused():
    report = audited()
    del report["landscape"]
    with pytest.raises(InputError, match="report: audit: landscape"):
        render_audit(report)
