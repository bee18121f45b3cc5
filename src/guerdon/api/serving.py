"""Serve rewards over HTTP to every trainer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from guerdon.config import ModelOptions, ServingOptions, make
from guerdon.config.serving import TOKEN_VARIABLE
from guerdon.config.training import refuse_options_of_new_models
from guerdon.contracts import GuerdonError
from guerdon.errors import field_error
from guerdon.models.server_key import key_from_env

if TYPE_CHECKING:
    from guerdon.contracts import Report
    from guerdon.serving.models import ServedModel
    from guerdon.serving.service import Service

__all__ = ["Serving", "named_sources", "require_packages", "serve", "start_service", "watch"]

BACKEND_TOKEN_VARIABLE: Final = "GUERDON_BACKEND_TOKEN"
MOST_WATCHED: Final = 2**24  # bytes of what a server counts
PACKAGES: Final = ("fastapi", "uvicorn", "prometheus_client")


@dataclass(frozen=True, slots=True)
class Serving:
    """What a server that is ready says of itself. token: one that it drew, for a host that others reach; None otherwise."""

    url: str
    models: tuple[str, ...]
    token: str | None


def serve(
    sources: Sequence[str | Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8050,
    options: ServingOptions | None = None,
    model_options: Mapping[str, Any] | None = None,
    backends: Sequence[str] = (),
    ready: Callable[[Serving], None] = lambda serving: None,
) -> None:
    """Serve reward models, ensembles and judges until Ctrl-C or SIGTERM; requests in progress are finished.

    sources: directories, hub names or judge.yaml, each also as NAME=SOURCE. On a host that only this machine reaches, nobody needs
    a token unless the environment variable GUERDON_REWARD_TOKEN holds one; on any other host one is drawn if it holds none. Models are
    loaded and warm before the first request is answered. model_options: ModelOptions of saved models, such as device. backends:
    addresses of vLLM or SGLang servers that make the forward passes of the one source, one for each member of an ensemble, with
    the token in GUERDON_BACKEND_TOKEN; no weights are loaded here then. Raises GuerdonError for a port that is in use, before
    anything is loaded.
    """
    chosen = options or ServingOptions()
    chosen.refuse_conflicts()
    require_packages()
    from guerdon.reporting.page import to_html
    from guerdon.runtime.web.guard import hosts_of, is_loopback
    from guerdon.runtime.web.listening import address_of, open_port, run
    from guerdon.runtime.web.secrets import new_secret
    from guerdon.serving.app import Access, create_app

    named = named_sources(sources)
    if backends:
        _refuse_with_backends(named, chosen, model_options or {})
    refuse_options_of_new_models(model_options or {})
    given = key_from_env(TOKEN_VARIABLE)
    drawn = new_secret() if given is None and not is_loopback(host) else None
    with ExitStack() as stack:
        listening = stack.enter_context(open_port(host, port))
        service = start_service(named, chosen, model_options or {}, backends)
        stack.callback(service.close, chosen.stop_seconds)
        app = create_app(service, Access(given or drawn, hosts_of([host])), to_html)
        running = Serving(address_of(listening), tuple(named), drawn)
        run(
            app,
            listening,
            lambda: ready(running),
            stop_seconds=chosen.stop_seconds,
            most_connections=chosen.max_connections,
        )


def start_service(
    named: Mapping[str, str], options: ServingOptions, model_options: Mapping[str, Any], backends: Sequence[str] = ()
) -> Service:
    """Models by name, loaded and ready to score."""
    from guerdon.serving.service import Service

    models = _in_a_thread(
        lambda: [_load(name, source, options, model_options, backends) for name, source in named.items()]
    )
    service = Service(models, options, options.batch_tokens)
    service.start()
    return service


def _in_a_thread(load: Callable[[], list[ServedModel]]) -> list[ServedModel]:
    """What it returns or raises, in a thread of its own.

    OpenMP keeps its threads for each thread that computes, until that one ends, and as soon as all together are more than the cores
    they sleep at every barrier instead of spinning: a short text takes a third longer. So whoever loads must not stay.
    """
    loaded: Future[list[ServedModel]] = Future()

    def run() -> None:
        try:
            loaded.set_result(load())
        except BaseException as error:  # raised again where it is waited for
            loaded.set_exception(error)

    threading.Thread(target=run, name="load", daemon=True).start()  # a daemon, so that Ctrl-C need not wait for it
    return loaded.result()


def watch(url: str, *, model: str | None = None, timeout: float = 30.0) -> Report:
    """How the rewards of a server have changed since the first texts, and whether the policy has begun to exploit the model.

    url: of the server, without a path. model: one that it serves; its first by default. timeout: seconds. The token is what the
    environment variable GUERDON_REWARD_TOKEN holds. Raises GuerdonError for a server that does not answer, or is none of ours.
    """
    from guerdon.serving.watch import windows_of
    from guerdon.serving.watch_report import watch_report

    watches = _fetch_watches(url, timeout)
    name = next(iter(watches), "") if model is None else model
    if name not in watches:
        raise field_error("--model", f"one of {', '.join(watches)}", name, "Choose one that the server has.")
    try:
        axis, windows = str(watches[name]["axis"]), windows_of(watches[name]["windows"])
    except (KeyError, TypeError):
        raise GuerdonError(
            f"{url}: the watch must be that of this version of guerdon. Update one of the two."
        ) from None
    return watch_report(name, axis, windows)


def _fetch_watches(url: str, timeout: float) -> dict[str, Any]:
    """What the server counts, by model."""
    import json

    import httpx2

    from guerdon.io.server_url import normalize_url
    from guerdon.models.http_connection import AnswerTooLarge, Connection

    address = normalize_url(url) + "/watch"
    token = key_from_env(TOKEN_VARIABLE)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with Connection(headers, timeout) as connection:
            status, _, body = connection.fetch("GET", address, None, timeout, MOST_WATCHED)
    except (httpx2.HTTPError, AnswerTooLarge) as error:
        raise GuerdonError(
            f"{address}: the server must answer, got {error or type(error).__name__}. Start it, or correct the address."
        ) from None
    if status == 401:
        raise GuerdonError(f"{address}: a token is needed. Set {TOKEN_VARIABLE} to the one that the server printed.")
    try:
        return dict(json.loads(body)["models"])
    except (ValueError, KeyError, TypeError):
        raise GuerdonError(
            f"{address}: must be a server of `guerdon serve`, got status {status}. Check the address."
        ) from None


def named_sources(sources: Sequence[str | Path]) -> dict[str, str]:
    """Sources by name: NAME=SOURCE, or else the last part of the path, which must then be of one source only."""
    if not sources:
        raise GuerdonError("serve: at least one model must be given, got none. Name a directory.")
    named: dict[str, str] = {}
    for given in map(str, sources):
        name, equals, source = given.partition("=")
        if not equals or Path(given).exists():
            name, source = _name_of(given), given
        if not name or not source:
            raise GuerdonError(f"serve: a model must be SOURCE or NAME=SOURCE, got {given!r}. Write the name first.")
        if name in named:
            raise GuerdonError(
                f"serve: models must have different names, got {name} of {named[name]} and of {source}. Write NAME=SOURCE."
            )
        named[name] = source
    return named


def _name_of(source: str) -> str:
    """judge of judges/judge.yaml; mine of runs/mine/model, as every run calls its model "model"."""
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        return path.stem
    is_of_run = path.name == "model" and path.parent.name not in ("", ".", "..")
    return path.parent.name if is_of_run else path.name or str(path)


def _refuse_with_backends(named: Mapping[str, str], options: ServingOptions, model_options: Mapping[str, Any]) -> None:
    """Raise for what an engine makes meaningless."""
    if len(named) > 1:
        raise field_error("--backend", "left out for several models", len(named), "Start a server for each of them.")
    given = [f"model.{name}" for name in ("device", "dtype", "autocast") if name in model_options]
    given += ["serving.prefix_cache"] if "prefix_cache" in options.model_fields_set else []
    if given:
        raise GuerdonError(f"{given[0]} must be left out with --backend: the engine decides it. Set it there.")


def _load(
    name: str, source: str, options: ServingOptions, model_options: Mapping[str, Any], backends: Sequence[str]
) -> ServedModel:
    from guerdon.api.judges import MeteredJudge, judge_options
    from guerdon.api.rewards import is_judge_file
    from guerdon.models.directory.loading import load
    from guerdon.serving.models import ServedJudge, ServedRewardModel, require_abstention

    served: ServedModel
    reading = make(ModelOptions, {"truncation": "refuse", **model_options})
    if backends:
        from guerdon.serving.backends import ServedBackend, connect

        backend = connect(source, backends, reading, key_from_env(BACKEND_TOKEN_VARIABLE), options.deadline)
        served = ServedBackend(name, source, backend, calibrated=options.calibrated)
    elif is_judge_file(source):
        served = ServedJudge(name, source, MeteredJudge(judge_options(source)).rewards)
    else:
        model = load(source, reading, batch_tokens=options.batch_tokens)
        served = ServedRewardModel(
            name, source, model if options.calibrated else model.model, options.prefix_cache * 2**20
        )
    require_abstention(served, options.abstain_below, options.abstain_std)
    return served


def require_packages() -> None:
    """Raise GuerdonError where what a server needs is not installed."""
    for name in PACKAGES:
        if find_spec(name) is None:
            raise GuerdonError(f"serve needs the package {name}. Run pip install 'guerdon[serve]'.")
