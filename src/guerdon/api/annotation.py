"""People compare: create a project, fill it, invite people, and serve the pages in which they judge."""

from __future__ import annotations

import gc
import getpass
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from guerdon.config import AnnotationOptions, ImportOptions
from guerdon.contracts import GuerdonError
from guerdon.errors import counted
from guerdon.progress import ProgressBar, note

if TYPE_CHECKING:
    from guerdon.annotation.accounts import Account
    from guerdon.annotation.project import Project
    from guerdon.data.files import Rejects
    from guerdon.store.database import Database
    from guerdon.store.items import Item
    from guerdon.store.location import StoreLocation

SECRET_VARIABLE: Final = "GUERDON_OIDC_SECRET"  # of the identity provider: a command line is no place for secrets
DEMO: Final = "demo"
DEMO_PAIRS: Final = 200  # of the starter kit
ADDED_FIRST: Final = 200  # items, before the page opens
ADDED_AT_ONCE: Final = 500  # while people judge: an answer waits for as long as these take
SECONDS_TO_FIRST_PAGE: Final = 2.0  # in which a server that starts has the processor for itself


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where a server listens and how it is reached.

    public_url: as people type it, where a proxy stands before the server. trusted_proxies: addresses of proxies whose
    X-Forwarded-For and X-Forwarded-Proto are believed. auth: whether people sign in; without, everybody is the owner.
    train_every: new judgments after which a reward model is trained on all so far; None: never. model: which one.
    """

    host: str = "127.0.0.1"
    port: int = 8040
    public_url: str | None = None
    trusted_proxies: Sequence[str] = ()
    auth: bool = True
    oidc_issuer: str | None = None
    oidc_client_id: str | None = None
    train_every: int | None = None
    model: str = "starter"


@dataclass(frozen=True, slots=True)
class Added:
    """How many items a project got. rejected: rows that could not be used, and the first of them."""

    read: int
    new: int
    rejected: int = 0
    first_rejected: str = ""


# ---- Projects ------------------------------------------------------------------------------------------------------


def create_annotation_project(
    store: str | Path, project: str, options: AnnotationOptions, owner: str | None = None
) -> dict[str, Any]:
    """Create the store if it is new, and a project in it, with an account for its owner; returns what there is now."""
    with _open_store(store) as database:
        from guerdon.annotation.project import create_project

        account = _owner_of(database, owner)
        new = create_project(database, project, options, _guidelines(options), time.time())
    return {"store": str(store), "project": new.name, "owner": account.login}


def add_to_project(
    store: str | Path,
    project: str,
    sources: Sequence[str | Path],
    imports: ImportOptions | None = None,
    purpose: str = "task",
) -> Added:
    """Add the pairs of files in any known format. The same ones again add nothing.

    purpose: task, or training, gold or attention, whose preferences become the known answers.
    """
    with _open_store(store, create=False) as database:
        from guerdon.annotation.project import load_project

        return _add(load_project(database, project), sources, imports or ImportOptions(), purpose)


def invite_people(
    store: str | Path,
    project: str,
    role: str = "annotator",
    count: int = 1,
    days: float = 7.0,
    external_id: str | None = None,
) -> list[str]:
    """Tokens of new invitations, each for one account; a link is ADDRESS/invite/TOKEN."""
    from guerdon.errors import did_you_mean, field_error
    from guerdon.store.annotation_tables import ACCOUNT_ROLES

    if role not in ACCOUNT_ROLES:
        raise field_error("role", f"one of {', '.join(ACCOUNT_ROLES)}", role, did_you_mean(role, ACCOUNT_ROLES))
    if external_id is not None and count != 1:
        raise field_error("--count", "1 with --external-id, which names one person", count, "Leave one of them out.")
    with _open_store(store, create=False) as database:
        from guerdon.annotation.invites import create_invite
        from guerdon.annotation.project import load_project

        load_project(database, project)
        now = time.time()
        return [
            create_invite(database, role=role, now=now, project=project, external_id=external_id, days=days)
            for _ in range(count)
        ]


# ---- Serving -------------------------------------------------------------------------------------------------------


def annotate(
    sources: Sequence[str | Path],
    store: str | Path,
    *,
    project: str | None = None,
    options: AnnotationOptions | None = None,
    imports: ImportOptions | None = None,
    server: ServerOptions | None = None,
    ready: Callable[[str], None] = lambda link: None,
) -> None:
    """Create the store and the project where they are new, add the pairs, and serve until Ctrl-C.

    sources: files in any known format, or "demo". ready: called with the link that signs the owner in.
    """
    server = server or ServerOptions()
    _provider(server)  # an error of the options comes before any work
    with ExitStack() as stack:
        ready = stack.enter_context(_starting(ready))
        listening = stack.enter_context(_listen(server))
        database = stack.enter_context(_open_store(store))
        owner = _owner_of(database, None)
        work = _project(database, project or project_name(sources), options)
        if list(sources) == [DEMO]:
            _add_demo(work)
        else:
            stack.enter_context(_adding(work, sources, imports or ImportOptions()))
        _serve(database, listening, server, owner, ready)


def serve_annotation(
    store: str | Path, server: ServerOptions | None = None, ready: Callable[[str], None] = lambda link: None
) -> None:
    """Serve all projects of a store until Ctrl-C. ready: called with the link that signs the owner in."""
    server = server or ServerOptions()
    with ExitStack() as stack:
        ready = stack.enter_context(_starting(ready))
        listening = stack.enter_context(_listen(server))
        database = stack.enter_context(_open_store(store, create=False))
        _serve(database, listening, server, _owner_of(database, None), ready)


@contextmanager
def _starting(ready: Callable[[str], None]) -> Iterator[Callable[[str], None]]:
    """Nothing looks for garbage until the server is ready: there is none yet, and looking takes a seventh of the time to start."""

    def started(link: str) -> None:
        gc.freeze()  # nor is any of this looked at while people judge
        gc.enable()
        ready(link)

    gc.disable()
    try:
        yield started
    finally:
        gc.unfreeze()
        gc.enable()


def project_name(sources: Sequence[str | Path]) -> str:
    """The name of a project for these files: that of the first one, without its ending."""
    name = re.split(r"[/\\]", str(sources[0]).rstrip("/\\"))[-1]
    return (name.split(".")[0] or name.strip("."))[:80] or "project"


def _serve(
    database: Database, listening: socket.socket, options: ServerOptions, owner: Account, ready: Callable[[str], None]
) -> None:
    from guerdon.annotation.sessions import delete_expired
    from guerdon.annotation.web.app import create_app
    from guerdon.annotation.web.security import Site
    from guerdon.api.annotation_background import background
    from guerdon.api.annotation_training import trainings
    from guerdon.runtime.web.guard import hosts_of
    from guerdon.runtime.web.listening import address_of, run
    from guerdon.runtime.web.secrets import new_secret

    delete_expired(database, time.time())
    _repair_counters(database)
    secret = new_secret()
    app = create_app(
        database,
        site=Site(options.public_url, hosts_of([options.host])),
        local=None if options.auth else owner,
        owner=owner,
        sign_in_secret=secret if options.auth else None,
        single_sign_on=_provider(options),
    )
    base = (options.public_url or address_of(listening)).rstrip("/")
    link = f"{base}/sign-in?token={secret}" if options.auth else f"{base}/"
    with background(database), trainings(database, options.train_every, options.model):
        run(app, listening, lambda: ready(link), options.trusted_proxies)


def _repair_counters(database: Database) -> None:
    """Set right what imports, merges or a restored backup left wrong, and say so."""
    from guerdon.annotation.project import load_project
    from guerdon.annotation.repair import repair
    from guerdon.annotation.results import project_names

    for name in project_names(database):
        if number := repair(load_project(database, name)):
            note(
                f"{name}: {counted(number, 'counter')} did not match the store and {'was' if number == 1 else 'were'} set right"
            )


def _listen(options: ServerOptions) -> socket.socket:
    """The port, taken before any work, so that a port in use costs nothing."""
    require_web()
    from guerdon.runtime.web.guard import is_loopback
    from guerdon.runtime.web.listening import open_port

    if not options.auth and not is_loopback(options.host):
        raise GuerdonError(
            f"--no-auth must come with a host that only this machine reaches, got {options.host}. Leave --no-auth out."
        )
    if options.public_url is not None and not re.fullmatch(r"https?://[^/?#@\s]+/?", options.public_url):
        raise GuerdonError(
            f"--public-url must be http(s)://HOST without a path, got {options.public_url!r}. Serve it at the root of a host."
        )
    return open_port(options.host, options.port)


def _provider(options: ServerOptions) -> Any:
    """The identity provider, if one is named."""
    if options.oidc_issuer is None and options.oidc_client_id is None:
        return None
    secret = os.environ.get(SECRET_VARIABLE)
    if options.oidc_issuer is None or options.oidc_client_id is None or not secret:
        raise GuerdonError(
            "single sign-on must have --oidc-issuer, --oidc-client-id and the secret in the environment variable "
            f"{SECRET_VARIABLE}, got only some of them. Give all three."
        )
    from guerdon.annotation.web.oidc import Provider

    return Provider(options.oidc_issuer, options.oidc_client_id, secret)


def require_web() -> None:
    """Raise GuerdonError where the packages of the web application are missing."""
    from importlib.util import find_spec

    for name in ("fastapi", "uvicorn", "argon2", "python_multipart", "markdown_it", "nh3", "pygments"):
        if find_spec(name) is None:
            raise GuerdonError(f"annotation needs the package {name}. Run pip install 'guerdon[annotation]'.")


# ---- The store -----------------------------------------------------------------------------------------------------


def existing_store(store: str | Path) -> StoreLocation:
    """Where a store is. GuerdonError for a file that is not there, with the command that creates one for annotation."""
    from guerdon.store.location import locate

    location = locate(store)
    if location.path is not None and not location.path.exists():
        raise GuerdonError(f"{store}: no such store. Create it with `guerdon annotation init {store} --project NAME`.")
    return location


def _open_store(store: str | Path, create: bool = True) -> Any:
    """The store, brought up to date."""
    from guerdon.store.database import open_database
    from guerdon.store.location import locate
    from guerdon.store.schema import migrate

    require_web()
    location = locate(store) if create else existing_store(store)

    @contextmanager
    def opened() -> Iterator[Database]:
        with open_database(location, create=create) as database:
            migrate(database)
            yield database

    return opened()


def _owner_of(database: Database, login: str | None) -> Account:
    """The first owner of the store, who gets an account where there is none. login: of a new one."""
    from guerdon.annotation.accounts import create_account, first_owner

    return first_owner(database) or create_account(database, login or _user_name(), role="owner", now=time.time())


def _user_name() -> str:
    """The name of whoever runs the command, as a login."""
    try:
        name = re.sub(r"[^a-z0-9._-]+", "-", getpass.getuser().lower()).strip("._-")
    except (OSError, KeyError, ImportError):  # a user without a name, as in containers
        name = ""
    return name[:64] or "owner"


def _project(database: Database, name: str, options: AnnotationOptions | None) -> Project:
    """The project, created where it is new. options: for a new one, and in place of those of an old one if any was set."""
    from guerdon.annotation.project import change_project, create_project, load_project
    from guerdon.annotation.results import project_names

    if name not in project_names(database):
        chosen = options or AnnotationOptions()
        return create_project(database, name, chosen, _guidelines(chosen), time.time())
    project = load_project(database, name)
    if options is None or not options.model_fields_set:
        return project
    return change_project(project, options, _guidelines(options) if options.guidelines else None)


def _guidelines(options: AnnotationOptions) -> str:
    """The text of the guidelines that the options name."""
    if options.guidelines is None:
        return ""
    from guerdon.io.readers import read_text

    return read_text(options.guidelines)


# ---- Items ---------------------------------------------------------------------------------------------------------


def _add(project: Project, sources: Sequence[str | Path], imports: ImportOptions, purpose: str) -> Added:
    from guerdon.annotation.project import add_items
    from guerdon.data.files import Rejects, require_usable

    rejects, count = Rejects(), 0

    def counting(items: Iterator[Item]) -> Iterator[Item]:
        nonlocal count
        for item in items:
            count += 1
            yield item

    rows = require_usable(_items(project, sources, imports, purpose, rejects), rejects)
    with ProgressBar(None, "import", "items") as bar:
        new = add_items(project, counting(rows), bar.advance)
    return _noted(Added(count, new, rejects.count, rejects.first_reason))


@contextmanager
def _adding(project: Project, sources: Sequence[str | Path], imports: ImportOptions) -> Iterator[None]:
    """The first items of files are added before the block, and the others while it runs, so that nobody waits for a long file.

    Items come in an order that is drawn, but who begins at once is given some of the first ones.
    """
    from guerdon.annotation.project import add_items
    from guerdon.data.files import Rejects, require_usable

    rejects, is_over = Rejects(), threading.Event()
    rows = require_usable(_items(project, sources, imports, "task", rejects), rejects)
    first = list(islice(rows, ADDED_FIRST))
    new = add_items(project, first)

    def add_rest() -> None:
        rest = takewhile(lambda item: not is_over.is_set(), rows)
        is_over.wait(SECONDS_TO_FIRST_PAGE)
        try:
            count, more = len(first), new
            while some := list(islice(rest, ADDED_AT_ONCE)):
                more += add_items(project, some)
                count += len(some)
        except GuerdonError as error:
            note(f"error: {error}")
        else:
            if not is_over.is_set():
                _noted(Added(count, more, rejects.count, rejects.first_reason))

    worker = threading.Thread(target=add_rest, name="import")
    worker.start()
    try:
        yield
    finally:
        is_over.set()
        worker.join()


def _noted(added: Added) -> Added:
    """The same, told on stderr."""
    note(f"{counted(added.read, 'item')}, {added.new:,} of them new")
    if added.rejected:
        note(f"{counted(added.rejected, 'row')} left out; the first is {added.first_rejected}")
    return added


def _items(
    project: Project, sources: Sequence[str | Path], imports: ImportOptions, purpose: str, rejects: Rejects
) -> Iterator[Item]:
    """The items of files; rows that this project cannot ask about are set aside."""
    from dataclasses import replace

    from guerdon.annotation.uploads import comparable_item
    from guerdon.data.files import scorable_rows
    from guerdon.io.schema import Rejected, conversation_from_row

    for location, row in scorable_rows(sources, imports, rejects, note, two_responses=True):
        prompt, responses, _ = conversation_from_row(location, row)
        try:
            item = comparable_item(project, prompt, responses)
        except GuerdonError as error:
            if imports.strict:
                raise GuerdonError(f"{location}: {error}") from None
            rejects.add(Rejected(location, str(error), row))
            continue
        yield replace(item, facts={"purpose": purpose})


def _add_demo(project: Project) -> None:
    """The pairs of the demonstration: texts of the starter kit where it is on this machine, else a few of ours."""
    from guerdon.annotation.demo import demo_items
    from guerdon.annotation.project import add_items
    from guerdon.data.ratings import rating_comparisons
    from guerdon.models.directory.starter import has_starter_ratings, starter_ratings
    from guerdon.store.items import unjudged_item

    if has_starter_ratings():
        pairs = rating_comparisons(starter_ratings(), DEMO_PAIRS, seed=0)
        items = [unjudged_item(pair.prompt, pair.responses)[0] for pair in pairs]
        note(f"demo: {len(items)} pairs of texts from the starter kit")
    else:
        items = demo_items()
        note(
            f"demo: {len(items)} built-in pairs; texts of the starter kit come once `guerdon quickstart` has fetched it"
        )
    add_items(project, items)
