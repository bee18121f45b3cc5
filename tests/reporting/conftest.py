"""One report of a real audit, for every test that draws one."""

from __future__ import annotations

import pytest
from sample_reports import audit_report


@pytest.fixture(scope="session")
def report():
    return audit_report()
