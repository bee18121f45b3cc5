"""`guerdon serve` as an application of Ray Serve: replicas on the machines of a cluster, behind one address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guerdon.api.serving import named_sources, require_packages, start_service
from guerdon.config import ServingOptions
from guerdon.config.serving import TOKEN_VARIABLE
from guerdon.config.training import refuse_options_of_new_models
from guerdon.contracts import GuerdonError
from guerdon.errors import field_error
from guerdon.models.server_key import key_from_env

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["ray_application"]


def ray_application(
    sources: Sequence[str | Path],
    *,
    replicas: int = 1,
    cpus: float = 1,
    gpus: float = 0,
    options: ServingOptions | None = None,
    model_options: Mapping[str, Any] | None = None,
) -> Any:
    """An application for `serve run` or ray.serve.run: the server of `guerdon serve`, as often as there are replicas.

    sources, options, model_options: as for `serve`; every node must reach the directories. cpus, gpus: of one replica. A replica
    whose node has GUERDON_REWARD_TOKEN in its environment requires that token. Ray Serve sends a request to the replica with the
    fewer requests in progress of two that it draws, so candidates of one prompt share it if they come in one request.
    """
    require_packages()
    if find_spec("ray") is None:
        raise GuerdonError("Ray Serve must be installed for replicas. Run pip install 'guerdon[ray]'.")
    from ray import serve

    if replicas < 1:
        raise GuerdonError(f"replicas must be at least 1, got {replicas}. Give the number of copies of the server.")
    named = {name: _absolute(source) for name, source in named_sources(sources).items()}
    refuse_options_of_new_models(model_options or {})
    chosen, settings = options or ServingOptions(), dict(model_options or {})
    chosen.refuse_conflicts()
    if chosen.audit_log is not None:
        claim = "left out with replicas, which would write one file"
        raise field_error("serving.audit_log", claim, chosen.audit_log, "Leave it out.")

    def build() -> FastAPI:  # on the replica, which loads the models before it is given requests
        from guerdon.reporting.page import to_html
        from guerdon.serving.app import Access, create_app

        access = Access(key_from_env(TOKEN_VARIABLE))
        return create_app(start_service(named, chosen, settings), access, to_html)

    deployment = serve.deployment(
        serve.ingress(build)(),
        name="guerdon",
        num_replicas=replicas,
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus},
        # The replica's own queue says when there is too much; Ray would let requests wait that nobody counts
        max_ongoing_requests=chosen.max_connections,
        graceful_shutdown_timeout_s=chosen.stop_seconds,
    )
    return deployment.bind()


def _absolute(source: str) -> str:
    """A path as replicas find it, whatever their working directory; a hub name as it is."""
    return str(Path(source).resolve()) if Path(source).exists() else source
