"""What an error says."""

from collections.abc import Callable
from typing import Any

import pytest

from diffc_jax.errors import UsageError


def message(call: Callable[[], Any], error: type[Exception] = UsageError) -> str:
    """The text of the error that a call raises."""
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


def fails(error: type[Exception], text: str, call: Callable[[], Any]) -> None:
    """Checks that a call raises an error with exactly this text."""
    assert message(call, error) == text
