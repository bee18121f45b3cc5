"""YAML that people mistype or that is hostile: always a ValueError of one short line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guerdon.config.yaml_text import parse_yaml

DOUBLING = "a: &a [x, x]\n" + "".join(
    f"{c}: &{c} [*{p}, *{p}]\n" for p, c in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", "1e-5"),
        ("0.5", 0.5),
        ("no", False),
        ("[a, b]", ["a", "b"]),
        ("&name [1]", [1]),
        ("", None),
        ("train: {lr: 1}", {"train": {"lr": 1}}),
    ],
)
def test_options_are_read_as_yaml_reads_them(text, value):
    assert parse_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (DOUBLING, r"an alias \(\*name\), which is not supported in line 2"),
        ("[" * 3000, "more than 50 levels"),
        ("loop: {rounds: 3}\nloop: {rounds: 2}", "the key loop twice in line 2"),
        ("a: [{b: 1, c: 2,\n b: 3}]", "the key b twice in line 2"),
        ("[\n" * 3000, "more than 50 levels in line 51"),
        ("2024-13-45", "month must be in 1..12"),
        ("0x_", "invalid literal for int"),
        ("!!int x", "invalid literal for int"),
        ("!!float x", "could not convert string to float"),
        ("!!bool x", "a value that cannot be read"),
        ("!!timestamp x", "a value that cannot be read"),
        ('"\\UFFFFFFFF"', "too large"),
        ("!!python/object:os.system x", "could not determine a constructor"),
        ("{? [a] : b}", "unhashable key"),
        ("9" * 10_000, "Exceeds the limit"),
        ("a: [1\nb: 2", "line 2"),
        (b"\x80", "invalid start byte"),
        ("\x1b", "special characters are not allowed"),
    ],
)
def test_a_mistake_is_one_short_line(text, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        parse_yaml(text)
    assert len(str(caught.value)) <= 120
    assert "\n" not in str(caught.value)


@given(st.text(alphabet="[]{}&*a!:,-? \n\t'\"|>0x_%@`#~.<=\\U", max_size=40))
def test_any_text_is_a_value_or_a_value_error(text):
    lines = []
    try:
        parse_yaml(text)
    except ValueError as error:
        lines = str(error).splitlines()
    assert len(lines) <= 1
