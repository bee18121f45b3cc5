"""A chat template that does not end, or writes without end, is stopped and named; another one pays nothing for it."""

from __future__ import annotations

import signal
import threading

import pytest
from chat_templates import TEXT_ONLY, tokenizer_with

from guerdon.contracts import GuerdonError
from guerdon.models import rendering
from guerdon.models.chat import ensure_pad_token
from guerdon.models.chat_template import ChatTemplate
from guerdon.models.rendering import apply_template

ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
HUGE = "{{ 'word ' * 1000000 }}"
TURNS = [{"role": "user", "content": "Hi"}]


@pytest.fixture(autouse=True)
def short_limit(monkeypatch):
    monkeypatch.setattr(rendering, "SECONDS", 0.2)


def test_a_template_that_does_not_end_is_stopped(tmp_path):
    tokenizer = tokenizer_with(ENDLESS)
    tokenizer.save_pretrained(tmp_path)
    tokenizer.name_or_path = str(tmp_path)
    with pytest.raises(
        GuerdonError, match=r"chat_template\.jinja: the chat template must render .* within 0\.2 s"
    ) as e:
        apply_template(tokenizer, TURNS)
    assert str(tmp_path) in str(e.value)
    with pytest.raises(GuerdonError, match=r"within 0\.2 s, got no end\. Correct its loops"):
        ChatTemplate(tokenizer, ENDLESS).prompt("Hi")
    with pytest.raises(GuerdonError, match="within"):
        ensure_pad_token(tokenizer)


def test_a_template_that_writes_too_much_is_refused():
    with pytest.raises(GuerdonError, match=r"must write at most 1,000,\d+ characters .*, got 5,000,000\. Correct"):
        apply_template(tokenizer_with(HUGE), TURNS)


def test_a_long_conversation_is_no_fault():
    long = [{"role": "user", "content": "word " * 500_000}]
    assert len(apply_template(tokenizer_with(TEXT_ONLY), long)) > 2_500_000


def test_the_limit_is_gone_after_a_rendering():
    apply_template(tokenizer_with(TEXT_ONLY), TURNS)
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    sum(range(10_000_000))  # takes longer than the limit


def test_another_thread_renders_without_a_timer():
    texts: list[str] = []
    thread = threading.Thread(target=lambda: texts.append(apply_template(tokenizer_with(TEXT_ONLY), TURNS)))
    thread.start()
    thread.join()
    assert texts == [apply_template(tokenizer_with(TEXT_ONLY), TURNS)]
