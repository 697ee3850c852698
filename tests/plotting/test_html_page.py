"""What pages are made of."""

import json
import math

import pytest

from diffc_jax.plotting import picture_page
from diffc_jax.plotting.html_page import embedded_json


def test_data_cannot_end_the_script_that_holds_them():
    value = {"</script>": ["<!--", "a & b", "é", None, 0.5]}
    text = embedded_json(value)
    assert not set("<>&") & set(text)
    assert json.loads(text) == value


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_that_are_no_json_are_refused(number):
    with pytest.raises(ValueError, match="JSON compliant"):
        embedded_json([number])


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(1000, "30.00 dB"), (990, "30.00 dB at 990"), (1010, "30.00 dB at 1,010 (its smallest)")],
)
def test_files_of_another_size_say_so(n_bytes, text):
    assert picture_page._cell(picture_page.Version("", n_bytes, 30.0), 1000) == text
