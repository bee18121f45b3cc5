"""A policy keeps its contract, records how each response ended, samples the plain distribution, and reads replies exactly."""

from __future__ import annotations

import json
import math
import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from families import save_family

from guerdon import GuerdonError, Message
from guerdon.config import PolicyOptions
from guerdon.models.directory.policies import load_policy
from guerdon.models.engine import kv_cache
from guerdon.models.stop_tokens import closing_token
from guerdon.testing import check_policy

FAMILIES = ["llama", "gpt2", "gemma3", "gemma2", "granite", "qwen3", "mistral", "phi3", "gpt_neox"]


def speaking(path, **options):
    return load_policy(PolicyOptions(base=str(path), **options))


@pytest.fixture(scope="module")
def policy(tiny_dir):
    return speaking(tiny_dir)


def prompts_for(policy, num=6, seed=0):
    """Prompts of unequal length, two with a common prefix and two equal."""
    rng = np.random.default_rng(seed)
    made = [rng.integers(5, 60, size).astype(np.int32) for size in rng.integers(1, 40, num)]
    return [*made, np.concatenate([made[0], made[1]]), np.concatenate([made[0], made[2]]), made[0]]


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3", "olmoe"])
def test_every_family_fulfills_the_contract(tmp_path, name):
    check_policy(speaking(save_family(tmp_path, name)))


@pytest.mark.parametrize("shelf", [0, kv_cache.GROUP_COST])  # no two lengths on one shelf, and all that are alike
@pytest.mark.parametrize("name", [*FAMILIES, "longrope"])
def test_greedy_tokens_are_those_of_transformers_generate(tmp_path, name, shelf, monkeypatch):
    monkeypatch.setattr(kv_cache, "GROUP_COST", shelf)
    policy = speaking(save_family(tmp_path, name))
    prompts = prompts_for(policy)
    ours = policy.generate(prompts, 1, 12, temperature=0)
    assert policy.backbone.mode == "prefix_tree"
    plain = speaking(tmp_path)
    for prompt, reply in zip(prompts, ours.replies, strict=True):
        ids = torch.from_numpy(prompt.astype(np.int64))[None]
        theirs = plain.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12,
            eos_token_id=sorted(plain.stop_ids), pad_token_id=plain.tokenizer.pad_token_id,
        )[0, len(prompt) :]  # fmt: skip
        assert reply.tolist() == theirs.tolist()


@pytest.mark.parametrize("name", FAMILIES)
def test_sampling_and_forward_give_the_same_log_probability(tmp_path, name):
    policy = speaking(save_family(tmp_path, name))
    prompts = prompts_for(policy)
    drawn = policy.generate(prompts, 3, 9, temperature=0.7, seeds=3)
    repeated = [p for p in prompts for _ in range(3)]
    with torch.no_grad():
        reading = policy.forward(repeated, drawn.replies, temperature=0.7)
        alone = [policy.forward([p], [r], 0.7).log_prob.sum() for p, r in zip(repeated, drawn.replies, strict=True)]
    sums = [float(x.sum()) for x in reading.log_prob.split([len(r) for r in drawn.replies])]
    np.testing.assert_allclose(sums, drawn.log_prob, atol=2e-4)
    np.testing.assert_allclose(sums, alone, atol=2e-4)


def test_log_probabilities_and_their_gradients_are_those_of_padded_rows(policy):
    prompts = prompts_for(policy)
    replies = policy.generate(prompts, 1, 7, seeds=5).replies

    def gradient(read):
        policy.model.zero_grad()
        log_prob, hidden = read()
        (log_prob.sum() + hidden.square().mean()).backward()
        return log_prob.detach(), {n: p.grad.clone() for n, p in policy.model.named_parameters()}

    def padded():
        hidden, log_prob = [], []
        for prompt, reply in zip(prompts, replies, strict=True):
            ids = torch.from_numpy(np.concatenate([prompt, reply]).astype(np.int64))
            out = plain.model(input_ids=ids[None], output_hidden_states=True)
            at = slice(len(prompt) - 1, len(ids) - 1)
            log_prob.append(out.logits[0, at].log_softmax(-1).gather(1, ids[len(prompt) :, None])[:, 0])
            hidden.append(out.hidden_states[-1][0, at])
        return torch.cat(log_prob), torch.cat(hidden)

    plain = policy
    policy._can_share_prefixes()
    way, attention = policy.backbone.mode, policy.backbone.native_attention

    def ours():
        reading = policy.forward(prompts, replies)
        return reading.log_prob, reading.hidden

    found = gradient(ours)
    policy.backbone.set_attention(attention)
    try:
        expected = gradient(padded)
    finally:
        policy.backbone.set_attention("guerdon_prefix_tree")
    assert way == "prefix_tree"
    torch.testing.assert_close(found[0], expected[0], atol=2e-5, rtol=1e-4)
    for name, value in expected[1].items():
        torch.testing.assert_close(found[1][name], value, atol=3e-5, rtol=1e-3)


def test_samples_of_a_prompt_do_not_depend_on_the_other_prompts(policy):
    prompts = prompts_for(policy)[:6]
    together = policy.generate(prompts, 4, 10, seeds=2)
    for i, prompt in enumerate(prompts):
        alone = policy.generate([prompt], 4, 10, seeds=2)
        assert [r.tolist() for r in alone.replies] == [r.tolist() for r in together.replies[4 * i : 4 * i + 4]]


def test_a_reply_across_the_longrope_threshold_does_not_depend_on_the_other_prompts(tmp_path):
    """Above 24 tokens this model rotates every position differently; some replies stay below, start above, or cross over."""
    policy = speaking(save_family(tmp_path, "longrope"))
    prompts = [np.random.default_rng(size).integers(10, 60, size).astype(np.int32) for size in (5, 40, 20)]
    together = policy.generate(prompts, 3, 8, seeds=[1, 2, 3])
    for i, prompt in enumerate(prompts):
        alone = policy.generate([prompt], 3, 8, seeds=[i + 1])
        assert [r.tolist() for r in alone.replies] == [r.tolist() for r in together.replies[3 * i : 3 * i + 3]]
        np.testing.assert_allclose(alone.log_prob, together.log_prob[3 * i : 3 * i + 3], atol=1e-4)


def test_a_repeated_prompt_gets_new_samples(policy):
    prompt = prompts_for(policy)[3]
    twice = policy.generate([prompt, prompt], 4, 10, seeds=2).replies
    assert [r.tolist() for r in twice[:4]] != [r.tolist() for r in twice[4:]]


@pytest.mark.parametrize("budget", [1, 60, 200])
def test_the_batch_size_of_sampling_changes_nothing(policy, monkeypatch, budget):
    prompts = prompts_for(policy)[:6]
    whole = policy.generate(prompts, 3, 8, seeds=1)
    monkeypatch.setattr("guerdon.models.policy.MAX_CACHED_TOKENS", budget)
    parts = policy.generate(prompts, 3, 8, seeds=1)
    assert [r.tolist() for r in parts.replies] == [r.tolist() for r in whole.replies]
    assert parts.finish == whole.finish


def test_finish_is_stop_for_an_ended_response_and_length_for_a_cut_one(policy):
    drawn = policy.sample(["write"], 300, 3, seed=1)
    finishes = Counter(response.finish for response in drawn.responses)
    assert finishes["stop"] > 0
    assert finishes["length"] > 0
    assert all(len(response.text.split()) <= 3 for response in drawn.responses)
    assert "<|im_end|>" not in " ".join(response.text for response in drawn.responses)


def test_the_first_token_follows_the_distribution_of_the_model(tiny_dir, policy):
    text = "<|im_start|>user\nwrite<|im_end|>\n<|im_start|>assistant\n"
    ids = policy.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    with torch.no_grad():
        p = speaking(tiny_dir).model(ids).logits[0, -1].double().softmax(0)
    drawn = policy.sample(["write"], 4000, 1, seed=0)
    word = int(p[8:].argmax()) + 8
    share = np.mean([r.text == policy.tokenizer.decode(word) for r in drawn.responses])
    expected = float(p[word])
    assert share == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 4000) ** 0.5)


def test_the_seed_determines_the_samples_and_the_global_generator_is_untouched(policy):
    before = torch.random.get_rng_state()
    one, same, other = (policy.sample(["write", "a"], 4, 6, seed=seed).responses for seed in (1, 1, 2))
    assert one == same != other
    assert torch.equal(before, torch.random.get_rng_state())


def test_sampled_responses_come_with_their_tokens(policy):
    drawn = policy.sample(["write", "a"], 3, 5, seed=1)
    assert drawn.samples == 3
    for prompt, ids, prompt_ids, length, response in zip(
        drawn.prompts, drawn.token_ids, drawn.prompt_ids, drawn.length, drawn.responses, strict=True
    ):
        assert prompt_ids.tolist() == policy.encode(prompt).tolist()
        assert length == len(ids)
        assert policy.response(ids, response.finish) == response


def test_a_system_message_is_put_before_prompts_that_have_none(tiny_dir, policy):
    spoken = speaking(tiny_dir, system="be kind")
    own = [Message("system", "be kind"), Message("user", "write")]
    assert spoken.sample(["write"], 4, 6).responses == policy.sample([own], 4, 6).responses
    assert spoken.sample([own], 4, 6).responses == policy.sample([own], 4, 6).responses


def test_responses_as_text_are_as_likely_as_their_tokens(policy):
    drawn = policy.sample(["write a review", "the film"], 3, 5, seed=0)
    np.testing.assert_allclose(policy.log_probs(drawn), drawn.log_prob, atol=1e-4)


def test_without_adapters_the_policy_is_the_reference(tiny_dir):
    adapted = load_policy(PolicyOptions(base=str(tiny_dir), lora_rank=2), adapters=True)
    with torch.no_grad():
        for name, p in adapted.model.named_parameters():
            if "lora_B" in name:
                p.normal_(generator=torch.Generator().manual_seed(0))
    prompts = prompts_for(adapted)[:3]
    replies = speaking(tiny_dir).generate(prompts, 1, 5, seeds=0).replies
    with torch.no_grad():
        plain = speaking(tiny_dir).forward(prompts, replies).log_prob
        on = adapted.forward(prompts, replies).log_prob
        with adapted.as_reference():
            off = adapted.forward(prompts, replies).log_prob
    torch.testing.assert_close(off, plain)
    assert (on - plain).abs().max() > 0.01


def test_rounding_does_not_turn_off_prefix_sharing(tiny_dir, monkeypatch):
    """After long training in bfloat16, logits of the two paths can differ by 16 %; the unembedding is the same in both."""
    policy = speaking(tiny_dir)
    exact = policy.backbone.hidden_states
    monkeypatch.setattr(policy.backbone, "hidden_states", lambda *given: exact(*given) * 1.5)
    policy.generate(prompts_for(policy)[:2], 1, 2)
    assert policy.shares_prefixes
    assert policy.backbone.mode == "prefix_tree"


@pytest.mark.parametrize("temperature", [math.nan, math.inf, 1e-40, -1.0])
def test_an_invalid_temperature_is_refused(policy, temperature):
    with pytest.raises(GuerdonError, match="temperature 0 or at least 1e-6, got 1, 2 and"):
        policy.generate(prompts_for(policy)[:1], 1, 2, temperature)


def test_a_model_that_gives_nan_is_refused(tiny_dir):
    policy = speaking(tiny_dir)
    prompts = prompts_for(policy)[:3]
    policy.generate(prompts, 2, 2)
    policy.model.get_output_embeddings().weight.data[7] = math.nan
    with pytest.raises(
        GuerdonError, match=r"prompt 0: log-probabilities of its replies must be numbers, got NaN\. Use"
    ):
        policy.generate(prompts, 2, 2)


def test_a_family_with_more_than_an_unembedding_is_still_read_exactly(tiny_dir, caplog):

    policy = speaking(tiny_dir)
    forward = policy.model.forward

    def shifted(*args, **given):
        out = forward(*args, **given)
        out.logits = out.logits * 0.5
        return out

    policy.model.forward = shifted
    prompts = prompts_for(policy)[:3]
    drawn = policy.generate(prompts, 2, 5, seeds=0)
    assert "its logits are not only its unembedding" in caplog.text
    with torch.no_grad():
        read = policy.forward([p for p in prompts for _ in range(2)], drawn.replies).log_prob
    sums = [float(x.sum()) for x in read.split([len(r) for r in drawn.replies])]
    np.testing.assert_allclose(sums, drawn.log_prob, atol=1e-4)


def test_the_end_of_turn_is_found_in_the_template(policy):
    assert policy.tokenizer.decode(closing_token(policy.tokenizer)) == "<|im_end|>"
    assert closing_token(policy.tokenizer) in policy.stop_ids


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((["a"], 0, 4), r"n and max_tokens must be at least 1"),
        ((["a"], 1, 0), r"n and max_tokens must be at least 1"),
        ((["a", "film " * 600], 1, 4), r"prompt 1: must have at most 508 tokens, got 60\d\. Drop"),
    ],
)
def test_what_cannot_be_sampled_is_refused(policy, given, message):
    with pytest.raises(GuerdonError, match=message):
        policy.sample(*given)


def test_a_stop_that_is_not_a_token_is_refused(tiny_dir):
    with pytest.raises(GuerdonError, match=r"policy\.stop must be single tokens of the tokenizer, got 'never'\. Use"):
        speaking(tiny_dir, stop=["never"])


def test_the_models_generation_config_does_not_affect_sampling(tiny_dir):
    """Its penalties, top-k and minimum lengths are for chatting; a policy gradient needs the plain distribution."""
    plain, shaped = speaking(tiny_dir), speaking(tiny_dir)
    for policy in (plain, shaped):
        policy.backbone.mode = "padded"  # transformers draws
    own = shaped.model.generation_config
    own.update(repetition_penalty=50.0, top_k=1, min_new_tokens=6, no_repeat_ngram_size=1, min_p=0.5)
    prompts = prompts_for(plain)[:3]
    expected, found = (policy.generate(prompts, 8, 6, seeds=4).replies for policy in (plain, shaped))
    assert [r.tolist() for r in found] == [r.tolist() for r in expected]
    assert shaped.model.generation_config is own


def test_a_fresh_policy_reads_replies_of_another(tiny_dir, policy):
    drawn = policy.sample(["write a review", "the film"], 3, 5, seed=0)
    np.testing.assert_allclose(speaking(tiny_dir).log_probs(drawn), drawn.log_prob, atol=1e-4)


# ---- What can be a policy --------------------------------------------------------------------------------------------


def test_a_directory_of_adapters_loads_as_the_adapted_model(tiny_dir, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    chosen = LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's own
        adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_dir), chosen)
    adapted.save_pretrained(tmp_path)
    speaking(tiny_dir).tokenizer.save_pretrained(tmp_path)
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        expected, plain = adapted(ids).logits, speaking(tiny_dir).model(ids).logits
        torch.testing.assert_close(speaking(tmp_path).model(ids).logits, expected, atol=1e-4, rtol=1e-4)
    assert (expected - plain).abs().max() > 0.1
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(GuerdonError, match=r"no base_model_name_or_path\. Name the base model"):
        speaking(tmp_path)


def test_a_model_without_its_own_unembedding_is_refused(tiny_dir, tmp_path):
    """A reward model or an encoder would get a random one and generate noise."""
    from transformers import AutoConfig, BertConfig, BertForMaskedLM, LlamaForSequenceClassification, T5Config
    from transformers import T5ForConditionalGeneration as Translator

    tokenizer = speaking(tiny_dir).tokenizer
    judge = AutoConfig.from_pretrained(tiny_dir, tie_word_embeddings=False, num_labels=1)
    small = {"vocab_size": len(tokenizer), "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}
    made = {
        "is a reward model or a classifier, which cannot generate": LlamaForSequenceClassification(judge),
        r"not a causal language model, lm_head\.weight is missing": LlamaForSequenceClassification(judge),
        "attends in both directions, so it cannot generate": BertForMaskedLM(BertConfig(hidden_size=8, **small)),
        "not a causal language model .*Unrecognized configuration": Translator(
            T5Config(vocab_size=len(tokenizer), d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
        ),
    }
    for i, (said, model) in enumerate(made.items()):
        model.save_pretrained(tmp_path / str(i))
        tokenizer.save_pretrained(tmp_path / str(i))
        if i == 1:  # one that does not say what it is
            config = json.loads((tmp_path / "1" / "config.json").read_text())
            (tmp_path / "1" / "config.json").write_text(json.dumps(config | {"architectures": None}))
        with pytest.raises(GuerdonError, match=rf"{said}.*\. Pass a language model"):
            speaking(tmp_path / str(i))


def test_errors_of_loading_name_the_policys_own_options(tiny_dir):
    with pytest.raises(GuerdonError, match=r"policy\.lora_targets must name linear layers, got 'nosuch'"):
        load_policy(PolicyOptions(base=str(tiny_dir), lora_targets=["nosuch"]), adapters=True)
    with pytest.raises(
        GuerdonError, match=r"policy\.device must be .* of this machine, got cuda:99.*\. Set policy\.device="
    ):
        speaking(tiny_dir, device="cuda:99")


def test_a_limit_that_leaves_no_room_for_a_prompt_is_refused(policy):
    with pytest.raises(
        GuerdonError, match="max_tokens must leave room for a prompt in the context of 512 tokens, got 600"
    ):
        policy.sample(["write"], 1, 600)
