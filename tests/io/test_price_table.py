"""Price tables: dated TOML files; what is not in them stays unknown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from guerdon.config import JudgeOptions
from guerdon.contracts import GuerdonError
from guerdon.io.price_table import priced
from guerdon.models.judges.calls import Usage
from guerdon.models.judges.endpoint.budget import Prices

TABLE = """
date = 2026-12-01
currency = "EUR"

[models."org/small"]
read = 0.10
written = 0.40

[models.large]
read = 2
written = 8.5
cached = 0.5
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "prices.toml").write_text(TABLE)
    return tmp_path / "prices.toml"


def judge(table: Path, **options: Any) -> JudgeOptions:
    return JudgeOptions.model_validate({"url": "http://x", "model": "large", "prices": str(table), **options})


def test_a_model_has_the_prices_of_its_table_and_their_date(table: Path) -> None:
    prices = Prices.of(priced(judge(table)))
    # by hand: 600,000 fresh tokens at 2, 400,000 cached ones at 0.5, 100,000 written ones at 8.5 per million
    assert prices.cost_of(Usage(1_000_000, 400_000, 100_000)) == pytest.approx(1.2 + 0.2 + 0.85)
    assert prices.name == "EUR 2 read, 8.5 written, 0.5 cached, per million tokens, of 2026-12-01"


def test_a_model_that_is_not_in_the_table_has_an_unknown_price(table: Path) -> None:
    prices = Prices.of(priced(judge(table, model="other")))
    assert (prices.name, prices.cost(10, 10)) == (None, None)


def test_options_go_over_the_table_and_doing_it_twice_changes_nothing(table: Path) -> None:
    once = priced(judge(table, price_in=3.0, currency="USD"))
    assert (once.price_in, once.price_out, once.currency) == (3.0, 8.5, "USD")
    assert priced(once) == once


def test_the_judges_of_a_jury_have_their_own_tables_in_one_currency(table: Path) -> None:
    members = [{"url": "http://x", "model": name, "prices": str(table)} for name in ("large", "org/small")]
    jury = priced(JudgeOptions(kind="jury", judges=members))
    assert [member["price_in"] for member in jury.judges] == [2.0, 0.1]
    assert jury.currency == "EUR"
    other = {"url": "http://x", "model": "m", "price_in": 1, "price_out": 1}
    with pytest.raises(GuerdonError, match=r"judge\.judges must be priced in one currency, got \['EUR', 'USD'\]"):
        priced(JudgeOptions(kind="jury", judges=[members[0], other]))


@pytest.mark.parametrize(
    ("text", "claim"),
    [
        ("date = 2026-12-01\nmodels = {x = {read = -1, written = 1}}", "models.x.read"),
        ("date = 2026-12-01\nmodels = {x = {read = nan, written = 1}}", "models.x.read"),
        ("date = 2026-12-01\nmodels = {x = {read = 1}}", "models.x.written"),
        ("date = 2026-12-01\nmodels = {x = {read = 1, write = 1}}", "models.x.write: a field must be one of read, written, cached"),
        ("date = 'soon'\nmodels = {}", "date"),
        ("models = {}", "date"),
        ("date = ", "is not valid TOML"),
        ("\udcff", "is not valid TOML"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_is_one_line_with_its_name(tmp_path: Path, text: str, claim: str) -> None:
    path = tmp_path / "p.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(GuerdonError) as error:
        priced(judge(path))
    assert str(error.value).startswith(f"{path}: {claim}"), error.value
    assert "\n" not in str(error.value)


def test_a_missing_table_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(GuerdonError, match=r"none\.toml: judge\.prices must be a file, got No such file"):
        priced(judge(tmp_path / "none.toml"))
