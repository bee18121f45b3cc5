"""guerdon serve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from guerdon.cli.app import app
from guerdon.cli.destinations import REPORT_FOLDER
from guerdon.cli.options import AsJson, ConfigFile, given_options, saved_model_options, settings_from, split_words
from guerdon.cli.output import note, print_report

if TYPE_CHECKING:
    from guerdon.api.serving import Serving


EXPLOITS: Final = 3


@app.command()
def serve(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="DIR...",
            help="Directories of reward models or ensembles, hub names, or judge.yaml, each also as NAME=DIR; then any options "
            "such as serving.deadline=60.",
        ),
    ],
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 for other machines to reach it, with a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 for any that is free.")] = 8050,
    deadline: Annotated[
        float | None,
        typer.Option(
            "--deadline", help="Seconds that a request may take; the same as serving.deadline=.", show_default=False
        ),
    ] = None,
    prefix_cache: Annotated[
        int | None,
        typer.Option(
            "--prefix-cache",
            help="Megabytes for prompts that come again; the same as serving.prefix_cache=.",
            show_default=False,
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option("--max-tokens", help="Tokens that may wait; the same as serving.max_tokens=.", show_default=False),
    ] = None,
    backends: Annotated[
        list[str] | None,
        typer.Option(
            "--backend",
            help="Address of a vLLM or SGLang server that makes the forward passes; repeat it for the members of an ensemble.",
            show_default=False,
        ),
    ] = None,
    allow_template: Annotated[
        bool, typer.Option("--allow-template", help="Let requests bring chat templates of their own.")
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Serve rewards to trainers over HTTP.

    One queue for all clients: texts that share a prompt are computed together, whoever sent them. It speaks its own /v1/reward and
    the protocols of vLLM, SGLang, OpenRLHF, verl, text-embeddings-inference and NIM, all with the number that `guerdon score` gives.
    On another host than this machine's, requests need the token in GUERDON_REWARD_TOKEN, or one that is drawn and printed.

    Example: guerdon serve runs/mine/model --port 8050
    """
    from guerdon.api import serving

    names = [word for word in sources if _is_named_source(word) or not split_words([word])[1]]
    overrides = [word for word in sources if word not in names]
    flags = given_options(
        deadline=deadline, prefix_cache=prefix_cache, max_tokens=max_tokens, allow_template=allow_template or None
    )
    settings = settings_from(config, None, overrides, reads=["model", "serving"], serving=flags)
    serving.serve(
        names,
        host=host,
        port=port,
        options=settings.serving,
        model_options=saved_model_options(settings, overrides),
        backends=backends or (),
        ready=_announce,
    )


@app.command()
def watch(
    url: Annotated[str, typer.Argument(metavar="URL", help="Address of a running `guerdon serve`.")],
    model: Annotated[
        str | None, typer.Option("--model", help="A model that it serves; the first by default.", show_default=False)
    ] = None,
    every: Annotated[
        float | None,
        typer.Option("--every", min=1.0, help="Look again every so many seconds, until Ctrl-C.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the report as a page with curves.", show_default=False),
        REPORT_FOLDER,
    ] = None,
    json: AsJson = False,
) -> None:
    """See whether a policy exploits the rewards that it gets.

    The first texts that the server scored are compared with the newest: reward, share out of distribution, correlation with
    length, spread of an ensemble's members, and KL where the training sends it. Exit code 3: the reward rose while one of the
    others says that the model cannot be trusted there.

    Example: guerdon watch http://127.0.0.1:8050 --out runs/watch
    """
    import time

    from guerdon.api import auditing, serving
    from guerdon.serving.watch_report import is_exploiting

    while True:
        report = serving.watch(url, model=model)
        if out is not None:
            auditing.write_report(report, out)
        print_report(report, json, None if json else out)
        if every is None:
            break
        time.sleep(every)
    if is_exploiting(report):
        raise typer.Exit(EXPLOITS)


def _is_named_source(word: str) -> bool:
    """Whether a word is NAME=SOURCE, and not an option, whose name has a period."""
    from guerdon.config import Config

    name, equals, source = word.partition("=")
    is_option = name.partition(".")[0] in Config.model_fields or not Path(source).exists()
    return bool(equals) and ("." not in name or not is_option)


def _announce(serving: Serving) -> None:
    print(f"rewards of {', '.join(serving.models)} at  {serving.url}", flush=True)
    if serving.token is not None:
        note(f"token {serving.token}  (Authorization: Bearer TOKEN; set GUERDON_REWARD_TOKEN to choose it)")
    note(f"watch for a browser  {serving.url}/watch")
    note("Ctrl-C stops the server; requests in progress are finished.")
