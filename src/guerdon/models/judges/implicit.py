"""The implicit reward of a DPO-trained policy: beta times the log-ratio of the policy to its reference.

r(x, y) = beta * (log pi(y | x) - log pi_ref(y | x)), up to a term of the prompt alone (Rafailov et al. 2023, arXiv 2305.18290,
eq. 5). What counts is the tokens of the response, and its end token where it ended: the one token that the chat template puts
after a turn. The prompt, the template's opening of the reply, and what the template writes after the end token count for
nothing. The sum is not divided by the length. A response that was cut at its token limit has no end token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from guerdon.contracts import GuerdonError, PromptLike, ResponseLike, Rollouts, Scores, as_prompt, as_response, digest
from guerdon.models.engine.pretrained import context_length
from guerdon.models.fingerprint import tokenizer_fingerprint, weights_fingerprint
from guerdon.models.scored_pairs import ComparesByReward

if TYPE_CHECKING:
    from guerdon.models.policy import LanguagePolicy

MISTAKE = "The reward would mix two ways of reading text."


class ImplicitReward(ComparesByReward):
    """A policy and the reference that DPO started it from, as a RewardModel.

    reference: None for a policy with adapters, whose reference is the same model without them. beta: of the training. Raises
    GuerdonError where the two read text in different ways, or do not differ.
    """

    def __init__(
        self,
        policy: LanguagePolicy,
        reference: LanguagePolicy | None = None,
        beta: float = 0.1,
        *,
        micro_tokens: int = 4096,
    ) -> None:
        if not 0 < beta < float("inf"):
            raise GuerdonError(f"beta must be a finite number above 0, got {beta}. Give the beta of the DPO training.")
        self.policy, self.reference, self.beta, self.micro_tokens = policy, reference, beta, micro_tokens
        if reference is None:
            if not has_adapters(policy.model):
                raise GuerdonError(
                    "reference must be given for a policy without adapters, got none. Give the model that DPO started from."
                )
        else:
            _refuse_mismatch(policy, reference)

    @property
    def fingerprint(self) -> str:
        """A hash of whatever changes its scores."""
        reference = "without adapters" if self.reference is None else self.reference.fingerprint
        return digest(["implicit reward", self.policy.fingerprint, reference, self.beta])

    def score(self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Scores:
        """beta times the log-ratio of each response, nats. Raises GuerdonError for one that does not fit the context."""
        rollouts = Rollouts(tuple(map(as_prompt, prompts)), tuple(map(as_response, responses)))
        self._refuse_long(rollouts)
        of_policy = self.policy.log_probs(rollouts, self.micro_tokens)
        if self.reference is None:
            with self.policy.as_reference():
                of_reference = self.policy.log_probs(rollouts, self.micro_tokens)
        else:
            of_reference = self.reference.log_probs(rollouts, self.micro_tokens)
        value = self.beta * (of_policy - of_reference)
        return Scores(value, np.zeros(len(value), dtype=bool))

    def _refuse_long(self, rollouts: Rollouts) -> None:
        models = (self.policy.model, *([] if self.reference is None else [self.reference.model]))
        longest = min(context_length(model.config) or 10**9 for model in models)
        for i, (prompt, response) in enumerate(zip(rollouts.prompts, rollouts.responses, strict=True)):
            size = len(self.policy.encode(prompt)) + len(self.policy.reply_ids(response))
            if size > longest:
                raise GuerdonError(
                    f"response {i}: must have at most {longest} tokens with its prompt, got {size}. Drop it: a log-ratio "
                    "of a part of the text is another reward."
                )


def has_adapters(model: Any) -> bool:
    """Whether the model can be run without its adapters."""
    return hasattr(model, "disable_adapter")


def _refuse_mismatch(policy: LanguagePolicy, reference: LanguagePolicy) -> None:
    """Raise GuerdonError for a reference that reads other tokens than the policy, or that is the policy itself."""
    if tokenizer_fingerprint(policy.tokenizer) != tokenizer_fingerprint(reference.tokenizer):
        raise GuerdonError(
            f"reference: must have the tokenizer of the policy, got another one. Give the model that DPO started from. {MISTAKE}"
        )
    if policy.template_hash != reference.template_hash:
        raise GuerdonError(
            "reference: must have the policy's chat template and system message, got others. "
            f"Copy the policy's tokenizer files to it. {MISTAKE}"
        )
    if policy.end_of_turn != reference.end_of_turn:
        ends = [model.tokenizer.convert_ids_to_tokens(model.end_of_turn) for model in (policy, reference)]
        raise GuerdonError(f"reference: must end a reply with {ends[0]!r}, got {ends[1]!r}. Correct its eos_token.")
    if weights_fingerprint(policy.model) == weights_fingerprint(reference.model):
        raise GuerdonError(
            "reference: must differ from the policy, got the same weights. Every reward would be 0: give the model that "
            "DPO started from."
        )
