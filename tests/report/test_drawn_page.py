"""Pages with all their pictures."""

import re
from base64 import b64decode
from io import BytesIO

import pytest
from PIL import Image

from dfshield.report import render_page


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_page_is_well_formed_and_loads_nothing(make_data, make_outcome, num_seeds, read_page):
    page = render_page(make_data(*(make_outcome(seed) for seed in range(num_seeds))))
    reader = read_page(page)
    assert page.startswith("<!DOCTYPE html>")
    assert reader.loaded
    assert all(address.startswith("data:image/png;base64,") for address in reader.loaded)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(reader.tags)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme:dark" in style
    assert "@media print" in style
    for address in reader.loaded:
        Image.open(BytesIO(b64decode(address.partition(",")[2]))).load()


def test_the_same_data_give_the_same_page(make_data):
    assert render_page(make_data()) == render_page(make_data())
