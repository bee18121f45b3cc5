"""What other readers give a saved model for a conversation: equal to what Guerdon gives it, or named with the difference."""

from __future__ import annotations

import json

import pytest
from chat_templates import CHATML, LLAMA3, TEXT_ONLY, tokenizer_with

from guerdon.config import ModelOptions
from guerdon.contracts import Response, as_prompt
from guerdon.models.chat import ChatTokenizer
from guerdon.models.directory.doctor import examine
from guerdon.models.directory.loading import create_reward_model, load_text
from guerdon.models.directory.reader_texts import openrlhf_ids, reading_findings, transformers_ids, verl_ids
from guerdon.models.directory.saving import save
from tiny import tiny_tokenizer

TURNS = [{"role": "user", "content": "is it good ?"}, {"role": "assistant", "content": "yes"}]
ENDS_IN_EOS = (  # ChatML, with the newline in front of each turn but the first
    "{% for m in messages %}{{ ('' if loop.first else '\\n') + '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' }}"
    "{% endfor %}{{ '\\n<|im_start|>assistant\\n' if add_generation_prompt }}"
)


def byte_tokenizer(template: str, bos: str | None = None):
    """A tokenizer that keeps white space, one token per byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([name for name in ("<|im_start|>", "<|im_end|>", "<pad>", bos) if name])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=bos, eos_token="<|im_end|>", pad_token="<pad>"
    )
    tokenizer.chat_template = template
    return tokenizer


def titles(text: ChatTokenizer, tmp_path) -> list[str]:
    return [finding.title for finding in reading_findings(text, tmp_path)]


def ours(text: ChatTokenizer) -> list[int]:
    return text.encode([TURNS[0]["content"]], [TURNS[1]["content"]])[0].ids.tolist()


def test_openrlhf_reads_chatml_without_its_last_newline(tmp_path):
    text = ChatTokenizer(byte_tokenizer(TEXT_ONLY))
    newline = text.tokenizer("\n")["input_ids"]
    assert openrlhf_ids(text.tokenizer, TURNS) == ours(text)[: -len(newline)]
    assert ours(text)[-len(newline) :] == newline
    (finding,) = reading_findings(text, tmp_path)
    assert finding.title == "another text than Guerdon's in OpenRLHF"
    assert finding.evidence == "it reads '.<|im_end|>' in place of '.<|im_end|>\\n'"


def test_openrlhf_reads_a_template_that_ends_in_eos_as_it_is(tmp_path):
    """The remedy: the same conversation, with the newline of a turn in front of the next one."""
    text = ChatTokenizer(byte_tokenizer(ENDS_IN_EOS))
    assert openrlhf_ids(text.tokenizer, TURNS) == ours(text)
    assert titles(text, tmp_path) == []
    chatml = ChatTokenizer(byte_tokenizer(TEXT_ONLY))
    for prompt, reply in (("Hi", "Yes"), ([*TURNS, {"role": "user", "content": "why"}], "so")):
        whole, changed = (t.render(as_prompt(prompt), Response(reply)) for t in (chatml, text))
        assert whole == changed + "\n"


def test_openrlhf_ends_a_text_with_eos_where_the_template_does_not():
    tokenizer = byte_tokenizer("{% for m in messages %}{{ m.role + ':' + m.content + '\\n' }}{% endfor %}")
    assert tokenizer.decode(openrlhf_ids(tokenizer, TURNS)) == "user:is it good ?\nassistant:yes <|im_end|>"


def test_verl_reads_a_text_without_the_bos_that_only_the_template_writes(tmp_path):
    text = ChatTokenizer(byte_tokenizer("<s>" + ENDS_IN_EOS, bos="<s>"))
    assert ours(text)[0] == text.tokenizer.bos_token_id
    assert verl_ids(text.tokenizer, TURNS) == ours(text)[1:]
    assert titles(text, tmp_path) == ["another text than Guerdon's in verl"]


@pytest.mark.parametrize("system", ["Be kind.", ""])
def test_a_system_message_that_the_template_does_not_hold_is_found(tiny_dir, tmp_path, system):
    """As version 0.1 saved it: in reward.json alone."""
    model = create_reward_model(ModelOptions(base=str(tiny_dir), system=system))
    save(model, tmp_path / "model")
    assert "another text than Guerdon's in transformers, TRL and vLLM" not in found(tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text(model.text.chat_template)
    config = tmp_path / "model" / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"chat_template": model.text.chat_template}))
    assert "another text than Guerdon's in transformers, TRL and vLLM" in found(tmp_path / "model")
    text = load_text(ModelOptions(base=str(tmp_path / "model")))
    assert transformers_ids(text.tokenizer, TURNS) != ours(text)


def found(folder) -> set[str]:
    return {finding.title for finding in examine(folder).findings}


@pytest.mark.parametrize("template", [CHATML, LLAMA3])
def test_what_a_template_leaves_out_is_found(tmp_path, template):
    assert "the chat template leaves text out" not in titles(ChatTokenizer(tokenizer_with(template)), tmp_path)
    hides = TEXT_ONLY.replace("{% for m in messages %}", "{% for m in messages if m.role in ('user', 'assistant') %}")
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = hides
    finding = list(reading_findings(ChatTokenizer(tokenizer), tmp_path))[-1]
    assert finding.title == "the chat template leaves text out"
    for part in ("the system message", "system messages after the first turn", "turns of a tool that nobody called"):
        assert part in finding.evidence
