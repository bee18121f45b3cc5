"""Secrets and personal data: what is found, what only looks like it, and what readers see of it."""

from __future__ import annotations

import time

import pytest

from guerdon.api.data import inspect
from guerdon.contracts import Comparison, Message, Preference, Prompt, Response, ToolCall, as_prompt
from guerdon.data.private import mask, mask_comparison, private_values
from guerdon.reporting import to_html

# No key here opens anything. They are in parts, so that no scanner of this file takes them for keys.
KEYS = [
    "AKIA" + "QYLPMN5HFIQR7XYA",
    "ghp_" + "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx",
    "xoxb-" + "34532454-e039d02840a0b9379c",
    "AIza" + "SyD8Q2k7Lw0ePq9sT1uVxYzAbCdEfGhIjKl",
    "sk-ant-" + "api03-Zm9vYmFyYmF6cXV4MDEyMzQ1Njc4OQ",
    "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgh"[:34],
]
PRIVATE = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEowIBAAKCAQEA7bq98kGZr\n" * 4 + "-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize("key", KEYS)
def test_access_keys_are_secrets_wherever_they_stand(key):
    for text in (key, f'key = "{key}"', f"https://host/?key={key}&x=1", f"A\n\t{key}."):
        assert list(private_values(text).values()) == ["secret"], text
        assert key not in mask(text)
        assert f"{key[:3]}•••" in mask(text)


def test_a_private_key_is_masked_up_to_its_last_line():
    assert mask(f"Mine:\n{PRIVATE}\nBye") == "Mine:\n---•••-----END RSA PRIVATE KEY-----\nBye"


def test_a_password_in_an_address_is_a_secret():
    assert private_values("psql postgres://ann:tr0ub4dor@db.host.net/x") == {"tr0ub4dor": "secret"}


@pytest.mark.parametrize(
    "number",
    [  # published for tests by the brands: the check digits are right
        *("4111 1111 1111 1111", "4111111111111111", "5555-5555-5555-4444", "378282246310005", "30569309025904"),
        *("6011111111111117", "3530111333300000"),
    ],
)
def test_card_numbers_have_the_length_and_check_digit_of_their_brand(number):
    assert private_values(f"I pay with {number}, ok?") == {number: "card"}
    changed = number[:-1] + str((int(number[-1]) + 1) % 10)
    assert "card" not in private_values(f"I pay with {changed}, ok?").values()


@pytest.mark.parametrize("email", ["ann.lee+x@mail.co.uk", "A_B@uni-x.edu"])
def test_email_addresses_are_found_whole(email):
    assert private_values(f"Write to <{email}>, or not.") == {email: "email"}


@pytest.mark.parametrize(
    "phone", ["(215) 204-3120", "215-204-3120", "1-215-204-3120", "+32 2 643 12 34", "+442079460123"]
)
def test_phone_numbers_are_found_whole(phone):
    assert private_values(f"Call {phone}.") == {phone: "phone"}


@pytest.mark.parametrize(
    "text",
    [
        *(
            "AKIAIOSFODNN7EXAMPLE",
            "postgres://user:password@host/db",
            "http://host:8080/path@x",
            "f(a@b.T)",
            "@ann and @bob",
        ),
        *(
            "your.name@gmail.com",
            "a@example.com",
            "b@mail.test",
            "user@domain.com",
            "call 1-800-273-8255",
            "555-010-1234",
        ),
        *(
            "3.14159265358979323846",
            "10^12 = 1000000000000",
            "2010-2015 1234-5678",
            "ISBN 978-3-16-148410-0",
            "x +960397912423686",
        ),
        *(
            "4,111,111,111,111,111",
            "192.168.100.200",
            "0000 0000 0000 0000",
            "sk-learn-is-a-library-of-models",
            "-----BEGIN PRIVATE KEY-----",
        ),
        *(
            "https://en.wikipedia.org/wiki/Hubble_Space_Telescope",
            "tel +1 (555) 123-4567",
            "1234567890",
            "\ud800 \u202e \x00",
        ),
    ],
)
def test_what_only_looks_private_is_left_alone(text):
    assert private_values(text) == {}
    assert mask(text) == text


def test_time_is_linear_in_hostile_texts():
    for part in ("eyJ", "://a", "a@a.", "+1 2", "4111 ", "sk-", "-----BEGIN PRIVATE KEY-----\n", "AKIA@1://"):
        start = time.process_time()
        private_values(part * (1_000_000 // len(part)))
        assert time.process_time() - start < 20, part


def secret_everywhere() -> Comparison:
    key = KEYS[0]
    call = Message("assistant", "", (ToolCall("pay", f'{{"key": "{key}", "card": 4111111111111111}}', "c1"),))
    answer = (call, Message("tool", f"paid with {key}", tool_call_id="c1"), Message("assistant", f"Done: {key}"))
    return Comparison(
        Prompt([Message("user", f"Pay with {key}")]).at("pairs.jsonl:7"),
        (Response(messages=answer), Response(f"No {key}")),
        Preference(q=1.0),
        rationale=f"It used {key}",
    )


def test_no_text_of_a_masked_comparison_has_the_secret():
    masked = mask_comparison(secret_everywhere())
    assert KEYS[0] not in repr(masked)
    assert "4111111111111111" not in repr(masked)
    assert masked.prompt.location == "pairs.jsonl:7"
    assert masked.preference == Preference(q=1.0)


def test_a_page_shows_the_finding_and_masks_the_text(tmp_path):
    rows = [secret_everywhere(), Comparison(as_prompt("q"), (Response("a"), Response("b")), Preference(q=1.0))]
    report = inspect(rows, tmp_path / "page.html", check={"shortcut_pairs": 0})
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert {"Secrets in texts", "Card numbers in texts"} <= {finding.title for finding in report.findings}
    assert KEYS[0] not in page + to_html(report)
    assert KEYS[0][:3] in page
