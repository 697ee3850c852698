"""Results that the tests of several plots read."""

import pytest

from tests.support.report_runs import write_runs


@pytest.fixture
def runs(tmp_path):
    """Folders of finished runs."""
    return write_runs(tmp_path)
