"""Pages with all their pictures."""

from base64 import b64decode
from io import BytesIO

import pytest
from PIL import Image

from dfshield.report import render_page


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_page_is_well_formed_and_loads_nothing(
    make_data, make_outcome, num_seeds, read_page, checked_style
):
    page = render_page(make_data(*(make_outcome(seed) for seed in range(num_seeds))))
    style = checked_style(page)
    assert "prefers-color-scheme:dark" in style
    assert "@media print" in style
    for address in read_page(page).loaded:
        Image.open(BytesIO(b64decode(address.partition(",")[2]))).load()


def test_the_same_data_give_the_same_page(make_data):
    assert render_page(make_data()) == render_page(make_data())
