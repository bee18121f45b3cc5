"""The command line's entry: one typer application; a user's mistake is one line on stderr and exit code 2."""

from __future__ import annotations

import errno
import io
import sys
from typing import Annotated, Any

import typer
import typer.core

from guerdon import __version__


class TwoWords(typer.core.TyperGroup):
    """Commands may be named by two words, such as `optimize ppo`; the first may be a command by itself."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The longest name that the arguments begin with."""
        two = " ".join(args[:2])
        if two in self.commands:
            return two, self.commands[two], args[2:]
        family = [name for name in self.commands if name.startswith(f"{args[0]} ")]
        if family and args[0] not in self.commands:
            ctx.fail(f"say which: {', '.join(f'guerdon {name}' for name in family)}")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="guerdon",
    cls=TwoWords,
    help="Train reward models, prove how far each can be trusted, and say how hard it may be pushed.",
    epilog="Start with `guerdon quickstart`. Every option is listed in docs/options.md; any may be given as STAGE.NAME=VALUE.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit
    if quiet:
        import logging

        from guerdon import progress

        progress.QUIET["on"] = True
        logging.getLogger("guerdon").setLevel(logging.WARNING)


INTERRUPTED = 130


def main() -> None:
    """Run a command. A user's mistake is one line and exit code 2."""
    import logging

    from guerdon.contracts import GuerdonError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # users' texts hold what a terminal may not know
    logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)  # a line a retry; the last error says it
    logging.getLogger("guerdon").addHandler(logging.StreamHandler())  # the message alone, on stderr
    logging.getLogger("guerdon").setLevel(logging.INFO)
    try:
        app()
    except GuerdonError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # what typer makes of Ctrl-C
            print("stopped; the same command goes on from here", file=sys.stderr)
        if not ended.code and "guerdon.runtime.distributed" in sys.modules:
            sys.modules["guerdon.runtime.distributed"].leave_processes()
        raise
    except OSError as error:
        remedies = {
            errno.ENOSPC: "free space, or pass another --out",
            errno.EDQUOT: "free space, or pass another --out",
            errno.EACCES: "check its permissions",
            errno.EPERM: "check its permissions",
            errno.EROFS: "pass another --out",
        }
        if error.errno not in remedies:
            raise
        place = error.filename or "output"
        print(f"error: {place}: {error.strerror}; remedy: {remedies[error.errno]}", file=sys.stderr)
        sys.exit(2)
