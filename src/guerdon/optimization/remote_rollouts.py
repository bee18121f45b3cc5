"""Rollouts from servers: before each update its adapters are written and loaded there, and replies come back as token ids.

The learner computes log-probabilities itself, because an engine's differ by rounding; their difference shows whether the servers
sample from the learner's weights.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from guerdon.config import OptimizeOptions
from guerdon.contracts import GuerdonError, Rollouts, digest
from guerdon.io.directories import write_directory
from guerdon.io.temporary import remove
from guerdon.models.engine.kv_cache import SampledTokens
from guerdon.models.engine.pretrained import quiet
from guerdon.models.policy import LanguagePolicy
from guerdon.models.rollout_servers import Adapter, RolloutServers
from guerdon.models.token_completions import PlainSampling, TokenReply, TokenRequest
from guerdon.optimization.prompts import PromptSet
from guerdon.optimization.update_alerts import MAX_SERVER_DIFFERENCE

__all__ = ["FOLDER", "RolloutEngine", "refuse_without_adapters", "rollout_engine"]

log = logging.getLogger("guerdon")

FOLDER = "adapters"  # in a run's folder
MAX_REPLIES = 16  # of one request, so that those to one prompt may come from several servers


def refuse_without_adapters(policy: LanguagePolicy) -> None:
    """Raise GuerdonError for a policy whose every weight is trained."""
    if not hasattr(policy.model, "peft_config"):
        raise GuerdonError(
            "optimize.rollouts: the policy must learn by adapters, got one without: servers take new weights over HTTP as LoRA "
            "adapters only. Set policy.lora_rank=16, or leave optimize.rollouts out."
        )


def rollout_engine(
    policy: LanguagePolicy, options: OptimizeOptions, folder: Path | None, accelerator: Accelerator
) -> RolloutEngine | None:
    """The servers of optimize.rollouts; None without any. folder: the run's, where adapters are written by default."""
    if not options.rollouts:
        return None
    refuse_without_adapters(policy)
    sampling = PlainSampling(options.max_tokens, options.temperature, policy.stop_ids, policy.vocabulary_size)
    servers = RolloutServers(
        options.rollouts,
        sampling,
        workers=options.rollout_workers,
        timeout=options.rollout_timeout,
        key_from_env=options.rollout_key_from_env,
    )
    chosen = Path(options.rollout_folder) if options.rollout_folder else folder / FOLDER if folder else None
    return RolloutEngine(policy, servers, chosen, accelerator, run=str(folder.resolve()) if folder else "")


@final
class RolloutEngine:
    """Samples from the policy as it is now, on servers.

    folder: where each version of the adapters gets a folder of its own, and the servers read it; None for a temporary one.
    run: distinguishes runs that share a folder or servers; the same when a run resumes.
    """

    def __init__(
        self,
        policy: LanguagePolicy,
        servers: RolloutServers,
        folder: Path | None,
        accelerator: Accelerator,
        *,
        run: str = "",
    ) -> None:
        self.policy, self.servers, self.accelerator = policy, servers, accelerator
        if folder is None:
            shared: list[Any] = [tempfile.mkdtemp(prefix="guerdon-adapters-") if accelerator.is_main_process else None]
            folder = Path(broadcast_object_list(shared)[0])
            if accelerator.is_main_process:
                weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.folder = folder.resolve()
        self._prefix = f"guerdon-{digest([run or str(self.folder)])[:8]}-"
        self._adapter: Adapter | None = None
        self._has_warned = False

    def start(self) -> None:
        """Load the policy's adapters everywhere. Raises GuerdonError about a server that does not answer or take them."""
        self.servers.load(self._publish())

    def sample(self, prompts: PromptSet, samples: int, seeds: Sequence[int]) -> Rollouts:
        """`samples` replies to each prompt, with token ids, and each token's log-probability if the servers give it."""
        adapter = self._publish()
        requests = [
            TokenRequest(ids.tolist(), min(MAX_REPLIES, samples - first), request_seed(seed, first))
            for ids, seed in zip(prompts.ids, seeds, strict=True)
            for first in range(0, samples, MAX_REPLIES)
        ]
        replies = [reply for group in self.servers.sample(adapter, requests) for reply in group]
        return self.policy.rollouts_of(
            prompts.prompts, prompts.ids, samples, sampled_tokens(replies), token_log_probs(replies)
        )

    def warn_if_apart(self, summary: Mapping[str, float]) -> None:
        """Log once that the servers' log-probabilities are far from the learner's, or absent. summary: metrics of an update."""
        if self._has_warned or not self.accelerator.is_main_process:
            return
        difference = summary.get("server_difference", 0.0)
        if "server_difference" not in summary and self.servers.sampling.temperature == 1:
            self._has_warned = True
            log.warning(
                "optimize.rollouts: the servers give no log-probabilities, so nothing shows whether they sample from these weights"
            )
        if difference > MAX_SERVER_DIFFERENCE:
            self._has_warned = True
            log.warning(
                "optimize.rollouts: log-probabilities of the servers and the policy differ by %.2f nats per token: the servers "
                "do not have the same base model, or not these adapters",
                difference,
            )

    def close(self) -> None:
        """Remove the adapters from the servers and the disk."""
        if self._adapter is not None and self.accelerator.is_main_process:
            self.servers.unload(self._adapter)
            self._remove_others(None)

    def _publish(self) -> Adapter:
        """The current version on disk. Its name is a hash of its weights, so servers never confuse two versions."""
        from peft import get_peft_model_state_dict

        state: Mapping[str, torch.Tensor] = get_peft_model_state_dict(self.policy.model, save_embedding_layers=False)
        (config,) = self.policy.model.peft_config.values()
        name = self._prefix + _weights_digest(state, f"{config.r} {config.lora_alpha}")
        path = self.folder / name
        if self.accelerator.is_main_process:
            if not path.exists():  # else it is whole: it was renamed into place, by this run before it was killed
                write_directory(path, self._write, "Free space, or set optimize.rollout_folder.")
            self._remove_others(name)
        self._adapter = Adapter(name, str(path), self._prefix, config.r)
        self.accelerator.wait_for_everyone()
        return self._adapter

    def _write(self, scratch: Path) -> None:
        with quiet():
            self.policy.model.save_pretrained(scratch, save_embedding_layers=False)
        (scratch / "README.md").unlink(missing_ok=True)  # an empty model card

    def _remove_others(self, name: str | None) -> None:
        """Delete the run's other versions. Servers hold what they have loaded in memory."""
        for path in self.folder.glob(f"{self._prefix}*"):
            if path.name != name and re.fullmatch(rf"{self._prefix}[0-9a-f]+", path.name):
                remove(path)


def request_seed(seed: int, first: int) -> int:
    """The seed of a request, for the replies to a prompt from number `first` on: 31 bits, as servers take them."""
    return int(digest([seed, first]), 16) % 2**31


def sampled_tokens(replies: Sequence[TokenReply]) -> SampledTokens:
    """The replies as the policy's own sampler gives them. log_prob is NaN where the servers do not say."""
    log_prob = [np.nan if reply.log_prob is None else float(reply.log_prob.sum()) for reply in replies]
    return SampledTokens(
        [reply.ids for reply in replies], [reply.finish for reply in replies], np.array(log_prob, dtype=np.float64)
    )


def token_log_probs(replies: Sequence[TokenReply]) -> tuple[np.ndarray, ...] | None:
    """Of each reply's tokens; None unless every reply has them."""
    known = [reply.log_prob for reply in replies if reply.log_prob is not None]
    return tuple(known) if len(known) == len(replies) else None


def _weights_digest(state: Mapping[str, torch.Tensor], settings: str) -> str:
    total = hashlib.sha256(settings.encode())
    for name in sorted(state):
        total.update(name.encode())
        total.update(state[name].detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:16]
