"""The entry of the command line: one typer application, and what happens when a command fails.

A user's mistake is one line on stderr and exit code 2; our own keeps its traceback.
"""

from __future__ import annotations

import errno
import io
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import typer
import typer.core

from guerdon import __version__
from guerdon.cli.destinations import protect_inputs, refuse_empty_paths
from guerdon.cli.stopping import INTERRUPTED, report_stop, sigterm_as_ctrl_c
from guerdon.errors import GuerdonError, short_path, visible

ADVICE: Mapping[int | None, str] = {  # what the user can do about an error of the operating system that names a path
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "Free space, or pass another path."),
    **dict.fromkeys((errno.EACCES, errno.EPERM), "Check its permissions."),
    errno.EROFS: "Pass another path.",
    errno.ENAMETOOLONG: "Pass a shorter path.",
    errno.ELOOP: "Pass a path whose symbolic links end somewhere.",
    errno.EIO: "Check the disk.",
}

Command = TypeVar("Command", bound=Callable[..., None])


class TwoWordCommands(typer.core.TyperGroup):
    """Commands may have names of two words, such as `optimize ppo`; the first word may be a command of its own."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command with the longest name that the arguments start with."""
        name, command, rest = self._resolve(ctx, args)
        if command is not None and command.callback:
            refuse_empty_paths(command.callback, {each.name: each.opts for each in command.params}, rest)
        return name, command, rest

    def _resolve(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        two_words = " ".join(args[:2])
        if two_words in self.commands:
            return two_words, self.commands[two_words], args[2:]
        names = [name for name in self.commands if name.startswith(f"{args[0]} ")]
        if names and args[0] not in self.commands:
            if set(args[1:2]) & set(ctx.help_option_names):
                self._show_family(ctx, args[0], names)
            ctx.fail(f"choose one of: {', '.join(f'guerdon {name}' for name in names)}")
        return super().resolve_command(ctx, args)

    def _show_family(self, ctx: Any, word: str, names: Sequence[str]) -> None:
        """Print what each command that starts with this word does, and end."""
        formatter = ctx.make_formatter()
        formatter.write_usage(f"guerdon {word}", "COMMAND ...")
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.commands[name].get_short_help_str(120)) for name in names])
        typer.echo(formatter.getvalue().rstrip())
        ctx.exit()


class Application(typer.Typer):
    """Commands that destroy none of their inputs."""

    def command(self, *args: Any, **settings: Any) -> Callable[[Command], Command]:
        """As typer's decorator."""
        register = super().command(*args, **settings)

        def decorate(command: Command) -> Command:
            register(protect_inputs(command))
            return command

        return decorate


app = Application(
    name="guerdon",
    cls=TwoWordCommands,
    help="Train reward models, measure how far each can be trusted, and optimize policies with them.",
    epilog="Start with `guerdon quickstart`. docs/options.md lists every option; each can be given as STAGE.NAME=VALUE.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _handle_global_options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress on stderr.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit
    if quiet:
        from guerdon import progress

        progress.set_quiet()
        logging.getLogger("guerdon").setLevel(logging.WARNING)


def main() -> None:
    """Run the command line and exit."""
    _set_up_output()
    try:
        with sigterm_as_ctrl_c():
            app()
    except GuerdonError as error:
        _exit_with_error(" ".join(str(error).split()), error.exit_code)
    except OSError as error:
        advice = ADVICE.get(error.errno)
        if advice is None:
            raise
        _exit_with_error(f"{short_path(error.filename or 'output')}: {error.strerror}. {advice}")
    except KeyboardInterrupt:  # before typer runs the command, which it ends with a code
        sys.exit(report_stop())
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            sys.exit(report_stop())
        if not ended.code and "guerdon.runtime.distributed" in sys.modules:  # nothing to leave if it was never imported
            sys.modules["guerdon.runtime.distributed"].leave_processes()
        raise


def _set_up_output() -> None:
    """Send log messages to stderr, and let output hold any text."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # texts may have characters that a terminal cannot show
    hub_retries = logging.getLogger("huggingface_hub.utils._http")
    hub_retries.setLevel(logging.ERROR)  # one line per retry; the last error is enough
    handler = logging.StreamHandler()
    handler.setFormatter(_VisibleFormatter())
    logging.getLogger("guerdon").addHandler(handler)
    logging.getLogger("guerdon").setLevel(logging.INFO)


class _VisibleFormatter(logging.Formatter):
    """Log messages may quote what a file or a server says."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def _exit_with_error(message: str, code: int = 2) -> None:
    print(visible(f"error: {message}"), file=sys.stderr)
    sys.exit(code)
