"""A language model that speaks: prompts in, sampled responses out, with the reason each one ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from assay.config import ModelOptions
from assay.contracts import AssayError, PromptLike, Response, Rollouts, as_prompt
from assay.models import layout
from assay.models.machine import pick_device, pick_dtype
from assay.models.scalar import resolve
from assay.models.text import PLAIN_TEMPLATE, ensure_pad_token, whole
from assay.progress import Bar


class LanguagePolicy:
    """A causal language model with its tokenizer. Sampling is plain: temperature only, no top-k, top-p or penalties."""

    def __init__(self, model: Any, tokenizer: Any, *, system: str | None = None, name: str = "") -> None:
        self.model, self.tokenizer, self.system, self.name = model, tokenizer, system, name

    def sample(
        self, prompts: Sequence[PromptLike], n: int, max_tokens: int, temperature: float = 1.0, seed: int = 0
    ) -> Rollouts:
        """Draw n responses to each prompt, at most max_tokens each; those of one prompt stand together.

        The seed fixes every draw and leaves torch's own generator as it was.
        """
        if temperature <= 0 or n < 1 or max_tokens < 1:
            raise AssayError(
                f"sample: n, max_tokens and temperature are above 0, got {n}, {max_tokens}, {temperature}; remedy: raise them"
            )
        asked = [as_prompt(p) for p in prompts]
        responses: list[Response] = []
        bar = Bar(len(asked), "sample", "prompts")
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(seed)
            for prompt in asked:
                responses += self._sample_one(prompt, n, max_tokens, temperature)
                bar.advance()
        bar.close()
        return Rollouts(tuple(p for p in asked for _ in range(n)), tuple(responses))

    def _sample_one(self, prompt: Any, n: int, max_tokens: int, temperature: float) -> list[Response]:
        turns = [{"role": m.role, "content": m.content} for m in prompt]
        if self.system is not None and prompt[0].role != "system":
            turns.insert(0, {"role": "system", "content": self.system})
        text = self.tokenizer.apply_chat_template(
            turns,
            chat_template=self.tokenizer.chat_template or PLAIN_TEMPLATE,
            tokenize=False,
            add_generation_prompt=True,
        )
        ids = self.tokenizer(whole(text), add_special_tokens=False, return_tensors="pt").to(self.model.device)
        with layout.quiet():
            drawn = self.model.generate(
                **ids,
                do_sample=True,
                temperature=temperature,
                top_k=0,
                top_p=1.0,
                num_return_sequences=n,
                max_new_tokens=max_tokens,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        ends = self.model.generation_config.eos_token_id
        stops = set(ends if isinstance(ends, list) else [ends]) | {self.tokenizer.eos_token_id}
        return [self._response(row, stops) for row in drawn[:, ids["input_ids"].shape[1] :].tolist()]

    def _response(self, ids: list[int], stops: set[int]) -> Response:
        end = next((i for i, token in enumerate(ids) if token in stops), None)
        text = self.tokenizer.decode(ids[:end] if end is not None else ids, skip_special_tokens=True)
        return Response(text, finish="length" if end is None else "stop", author=self.name or None)


def load_policy(options: ModelOptions) -> LanguagePolicy:
    """A policy from a hub name, a directory, or 'starter'."""
    from transformers import AutoModelForCausalLM

    source = resolve(options.base)
    layout.read_config(source, options)
    tokenizer = layout.read_tokenizer(source, options)
    ensure_pad_token(tokenizer)
    with layout.quiet():
        model: Any = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=pick_dtype(options.dtype, pick_device(options.device)),
            revision=options.revision,
            trust_remote_code=options.trust_remote_code,
            use_safetensors=True,
        )
    model.to(pick_device(options.device)).eval()
    return LanguagePolicy(model, tokenizer, system=options.system, name=options.base)
