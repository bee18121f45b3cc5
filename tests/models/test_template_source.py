"""A saved chat template gives every reader the text that the model was trained on: its system message, one date, its BOS."""

from __future__ import annotations

import shutil
from datetime import datetime

import pytest
from chat_templates import TEMPLATES, TEXT_ONLY, tokenizer_with
from families import save_family

from guerdon.config import ModelOptions
from guerdon.contracts import Message, Response, as_prompt
from guerdon.models.directory.loading import create_reward_model, load_reward_model
from guerdon.models.directory.saving import save
from guerdon.models.engine.pretrained import read_tokenizer
from guerdon.models.template_source import (
    PLAIN_TEMPLATE,
    PLAIN_WITH_BOS,
    own_template,
    pin_date,
    saved_system_message,
    template_source,
    with_saved_system,
)
from tiny import tiny_tokenizer

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
DATED = "{{ 'Today is ' + strftime_now('%d %B %Y, %H:%M') + '.' }}" + TEXT_ONLY
GUARDED = (
    "{% if not date_string is defined %}{% if strftime_now is defined %}{% set date_string = strftime_now('%-d %b') %}"
    "{% else %}{% set date_string = 'never' %}{% endif %}{% endif %}{{ date_string }}" + TEXT_ONLY
)


def read_elsewhere(source: str, turns=TURNS) -> str:
    return tokenizer_with(source).apply_chat_template(turns, tokenize=False)


# ---- The system message ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", ["", "Be kind.", "'\"\\\n{{ x }} {% if %} ü 😀\x00"])
@pytest.mark.parametrize("name", [*TEMPLATES, "leading spaces"])
def test_a_saved_system_message_is_read_elsewhere_as_it_is_here(name, system):
    source = TEMPLATES.get(name, "\n  {% if true %}\n" + TEXT_ONLY + "{% endif %}\n")
    saved = with_saved_system(source, system)
    with_system = [{"role": "system", "content": system}, *TURNS]
    assert read_elsewhere(saved) == read_elsewhere(source, with_system)
    assert read_elsewhere(saved, with_system) == read_elsewhere(source, with_system), "never twice"
    tokenizer = tokenizer_with(saved)
    assert (saved_system_message(tokenizer), own_template(tokenizer)) == (system, source)


def test_a_template_without_a_saved_system_message_is_left_alone():
    assert with_saved_system(TEXT_ONLY, None) == TEXT_ONLY
    edited = with_saved_system(TEXT_ONLY, "Be kind.").replace("'Be kind.'", "motto")
    assert saved_system_message(tokenizer_with(edited)) is None
    assert own_template(tokenizer_with(edited)) == edited


@pytest.mark.parametrize("system", [None, "", "be kind"])
def test_transformers_renders_a_saved_model_as_it_was_trained(tiny_dir, tmp_path, system):
    model = create_reward_model(ModelOptions(base=str(tiny_dir), system=system))
    save(model, tmp_path / "model")
    text = model.text.render(as_prompt("Hi"), Response("Hello!"))
    assert read_tokenizer(str(tmp_path / "model"), ModelOptions()).apply_chat_template(TURNS, tokenize=False) == text
    again = load_reward_model(tmp_path / "model")
    assert again.text.render(as_prompt("Hi"), Response("Hello!")) == text
    assert again.text.template_hash == model.text.template_hash
    other = load_reward_model(tmp_path / "model", ModelOptions(system=None))
    assert other.text.render(as_prompt("Hi"), Response("Hello!")) == read_elsewhere(model.text.chat_template)
    (tmp_path / "model" / "reward.json").unlink()
    assert load_reward_model(tmp_path / "model").text.system == system
    save(again, tmp_path / "again")
    files = [(tmp_path / name / "chat_template.jinja").read_text("utf-8") for name in ("model", "again")]
    assert files[0] == files[1]


# ---- The date --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "date"),
    [(DATED, "Today is 26 July 2024, 00:00."), (GUARDED, "26 Jul"), (pin_date(DATED), "Today is 26")],
)
def test_a_date_is_the_same_every_day(source, date):
    assert read_elsewhere(own_template(tokenizer_with(source))).startswith(date)
    assert own_template(tokenizer_with(source)) == pin_date(source)


def test_today_is_written_where_the_date_is_not_pinned():
    """What is fixed here: transformers itself gives today's date."""
    assert read_elsewhere("{{ strftime_now('%Y') }}") == datetime.now().strftime("%Y")


def test_a_template_without_a_date_is_left_alone():
    assert pin_date(TEXT_ONLY) == TEXT_ONLY


def test_a_saved_model_keeps_its_date_and_its_system_message(tiny_dir, tmp_path):
    base = shutil.copytree(tiny_dir, tmp_path / "base")
    tokenizer_with(DATED).save_pretrained(base)
    model = create_reward_model(ModelOptions(base=str(base), system="be kind"))
    save(model, tmp_path / "model")
    text = model.text.render(as_prompt("Hi"), Response("Hello!"))
    assert text.startswith("Today is 26 July 2024, 00:00.<|im_start|>system\nbe kind<|im_end|>")
    elsewhere = read_tokenizer(str(tmp_path / "model"), ModelOptions())
    assert elsewhere.apply_chat_template(TURNS, tokenize=False) == text
    assert load_reward_model(tmp_path / "model").text.template_hash == model.text.template_hash


# ---- The plain template ----------------------------------------------------------------------------------------------


def bos_tokenizer(template: str | None = None):
    """The tiny tokenizer, which now puts its BOS before every text."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    single = [("<|im_start|>", tokenizer.bos_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<|im_start|> $A", None, single)
    return tokenizer


def test_the_plain_template_begins_as_the_tokenizer_says():
    assert template_source(tiny_tokenizer(), "plain") == PLAIN_TEMPLATE
    for template in ("plain", "model"):
        assert template_source(bos_tokenizer(), template) == PLAIN_WITH_BOS
    assert template_source(bos_tokenizer(TEXT_ONLY), "plain") == PLAIN_WITH_BOS
    assert template_source(bos_tokenizer(PLAIN_TEMPLATE), "plain") == PLAIN_TEMPLATE, "as version 0.1 trained it"


def test_a_plain_text_has_one_bos_here_and_elsewhere(tiny_dir, tmp_path):
    base = shutil.copytree(tiny_dir, tmp_path / "base")
    (base / "chat_template.jinja").unlink()
    bos_tokenizer().save_pretrained(base)
    model = create_reward_model(ModelOptions(base=str(base), template="plain"))
    ids = model.text.encode(["Hi"], ["Hello!"])[0].ids.tolist()
    assert ids[0] == model.text.tokenizer.bos_token_id
    assert ids.count(ids[0]) == 1
    save(model, tmp_path / "model")
    elsewhere = read_tokenizer(str(tmp_path / "model"), ModelOptions())
    text = elsewhere.apply_chat_template(TURNS, tokenize=False)
    assert elsewhere(text, add_special_tokens=False)["input_ids"] == ids


def test_an_encoder_gets_its_special_tokens_once(tmp_path):
    model = create_reward_model(ModelOptions(base=str(save_family(tmp_path / "base", "bert")), template="plain"))
    assert model.text.chat_template == PLAIN_TEMPLATE


def test_a_system_turn_of_its_own_replaces_the_saved_one():
    saved = with_saved_system(TEXT_ONLY, "Be kind.")
    own = [Message("system", "Be brief."), Message("user", "Hi")]
    turns = [{"role": turn.role, "content": turn.content} for turn in own]
    assert "Be kind." not in read_elsewhere(saved, [*turns, TURNS[1]])
