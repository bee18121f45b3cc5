"""guerdon annotate, and guerdon annotation init, add, invite and serve."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guerdon.cli import stopping
from guerdon.cli.app import app
from guerdon.cli.options import (
    ANY_FORMAT,
    AsJson,
    RowOptions,
    settings_from,
    split_words,
    with_option_groups,
)
from guerdon.cli.output import note, print_facts, print_json

if TYPE_CHECKING:
    from guerdon.api.annotation import ServerOptions
    from guerdon.config import AnnotationOptions, Config

Store = Annotated[
    str, typer.Argument(metavar="STORE", help="A file such as annotations.db, or postgresql://USER@HOST/DATABASE.")
]
ProjectName = Annotated[str, typer.Option("--project", help="Name of the project.")]
AnnotationFile = Annotated[
    Path | None,
    typer.Option(
        "--config", help="annotation.yaml: what people are asked, and how; see docs/annotate.md.", show_default=False
    ),
]


@dataclass(frozen=True, kw_only=True)
class ServingOptions:
    """Options of the commands that serve pages."""

    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 for other machines to reach it.")
    ] = "127.0.0.1"
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 for any that is free.")] = 8040
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Nobody signs in, everybody is the owner; on this machine only.")
    ] = False
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the page in a browser.")] = False
    public_url: Annotated[
        str | None,
        typer.Option("--public-url", help="https://HOST as people type it, behind a proxy.", show_default=False),
    ] = None
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            "--trusted-proxy",
            help="Address of a proxy whose X-Forwarded headers are believed; repeatable.",
            show_default=False,
        ),
    ] = None
    oidc_issuer: Annotated[
        str | None,
        typer.Option("--oidc-issuer", help="URL of an identity provider for single sign-on.", show_default=False),
    ] = None
    oidc_client_id: Annotated[
        str | None,
        typer.Option(
            "--oidc-client-id",
            help="This application's name there; its secret is in GUERDON_OIDC_SECRET.",
            show_default=False,
        ),
    ] = None
    train_every: Annotated[
        int | None,
        typer.Option(
            "--train-every",
            min=1,
            help="Train a reward model after each so many new judgments; managers see its held-out accuracy.",
            show_default=False,
        ),
    ] = None
    model: Annotated[str, typer.Option("--model", help="The model that --train-every trains.")] = "starter"

    def server(self) -> ServerOptions:
        """Where the server listens and how it is reached."""
        from guerdon.api.annotation import ServerOptions

        return ServerOptions(
            host=self.host,
            port=self.port,
            public_url=self.public_url,
            trusted_proxies=tuple(self.trusted_proxy or ()),
            auth=not self.no_auth,
            oidc_issuer=self.oidc_issuer,
            oidc_client_id=self.oidc_client_id,
            train_every=self.train_every,
            model=self.model,
        )

    def ready(self, link: str) -> None:
        """Print the link, and open it."""
        print(f"judge at  {link}", flush=True)
        note("Ctrl-C stops the server; the same command goes on where it stopped.")
        if not self.no_browser:
            _open_page(link)


@app.command()
@with_option_groups
def annotate(
    pairs: Annotated[
        list[str],
        typer.Argument(
            metavar="PAIRS...",
            help=f"Pairs of responses, labeled or not, {ANY_FORMAT}; or demo; then any options such as annotation.need=3.",
        ),
    ],
    rows: RowOptions,
    serving: ServingOptions,
    store: Annotated[str, typer.Option("--store", help="Where answers are kept; created if new.")] = "annotations.db",
    project: Annotated[
        str | None, typer.Option("--project", help="Name of the project; that of the file.", show_default=False)
    ] = None,
    config: AnnotationFile = None,
) -> None:
    """Judge pairs in the browser.

    Creates a store and a project, adds the pairs, and serves the page on this machine until Ctrl-C. The same command goes on
    where it stopped. `guerdon train --data store:annotations.db` trains on the answers.

    Example: guerdon annotate pairs.jsonl
    """
    from guerdon.api.annotation import annotate as serve

    stopping.set_resumable(True)
    files, overrides = split_words(pairs)
    settings = _settings(config, overrides, imports=rows.given())
    serve(
        files,
        store,
        project=project,
        options=settings.annotation,
        imports=settings.imports,
        server=serving.server(),
        ready=serving.ready,
    )


@app.command("annotation init")
def annotation_init(
    store: Store,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[annotation.NAME=VALUE]...", help="Options, such as annotation.need=3.", show_default=False
        ),
    ] = None,
    *,
    project: ProjectName,
    owner: Annotated[
        str | None,
        typer.Option("--owner", help="Login of who owns a new store; your name on this machine.", show_default=False),
    ] = None,
    config: AnnotationFile = None,
    json: AsJson = False,
) -> None:
    """Create a project for a team.

    Example: guerdon annotation init team.db --project replies --config annotation.yaml
    """
    from guerdon.api.annotation import create_annotation_project

    settings = _settings(config, overrides or [])
    print_facts(create_annotation_project(store, project, settings.annotation, owner), json)


@app.command("annotation add")
@with_option_groups
def annotation_add(
    store: Store,
    pairs: Annotated[
        list[str], typer.Argument(metavar="PAIRS...", help=f"Pairs of responses, labeled or not, {ANY_FORMAT}.")
    ],
    *,
    project: ProjectName,
    rows: RowOptions,
    json: AsJson = False,
) -> None:
    """Add pairs to a project.

    What is there already is not added again. People who judge meanwhile get the new pairs too.

    Example: guerdon annotation add team.db pairs.jsonl --project replies
    """
    from guerdon.api.annotation import add_to_project

    stopping.set_resumable(True)
    files, overrides = split_words(pairs)
    settings = settings_from(None, None, overrides, reads=["imports"], imports=rows.given())
    added = add_to_project(store, project, files, settings.imports)
    print_facts({"items": added.read, "new": added.new, "rejected": added.rejected}, json)


@app.command("annotation invite")
def annotation_invite(
    store: Store,
    *,
    project: ProjectName,
    role: Annotated[
        str, typer.Option("--role", help="owner, manager, adjudicator, annotator, viewer or service.")
    ] = "annotator",
    count: Annotated[int, typer.Option("--count", min=1, max=1000, help="How many links.")] = 1,
    days: Annotated[float, typer.Option("--days", min=0.01, max=365, help="Days until a link expires.")] = 7.0,
    external_id: Annotated[
        str | None,
        typer.Option("--external-id", help="Who the person is at another site, kept with it.", show_default=False),
    ] = None,
    address: Annotated[str, typer.Option("--address", help="Where the server is reached.")] = "http://127.0.0.1:8040",
    json: AsJson = False,
) -> None:
    """Print links that make an account each.

    Example: guerdon annotation invite team.db --project replies --count 3 --address https://annotate.example.org
    """
    from guerdon.api.annotation import invite_people

    tokens = invite_people(store, project, role, count, days, external_id)
    links = [f"{address.rstrip('/')}/invite/{token}" for token in tokens]
    if json:
        print_json({"links": links})
        return
    for link in links:
        print(link)


@app.command("annotation serve")
@with_option_groups
def annotation_serve(store: Store, serving: ServingOptions) -> None:
    """Serve the projects of a store until Ctrl-C.

    Example: guerdon annotation serve team.db --host 0.0.0.0 --public-url https://annotate.example.org --no-browser
    """
    from guerdon.api.annotation import serve_annotation

    stopping.set_resumable(True)
    serve_annotation(store, serving.server(), serving.ready)


def _settings(config: Path | None, overrides: list[str], imports: dict[str, Any] | None = None) -> Config:
    """The options of annotation.yaml, with overrides over them."""
    presets = {"annotation": _file_options(config).model_dump(exclude_unset=True)} if config else {}
    reads = ["annotation"] if imports is None else ["annotation", "imports"]
    return settings_from(None, None, overrides, reads=reads, presets=presets, imports=imports or {})


def _file_options(config: Path) -> AnnotationOptions:
    from guerdon.io.option_file import read_annotation

    return read_annotation(config)


def _open_page(link: str) -> None:
    """Open the page without waiting for the browser, which may be one of the terminal."""
    import threading
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(link,), daemon=True).start()
