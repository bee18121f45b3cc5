"""`python -m guerdon` is the command `guerdon`: launchers such as torchrun start modules."""

import gc
import sys


def main() -> None:
    """Run the command line. Ctrl-C is one line also while the commands are loaded, which takes part of a second."""
    try:
        gc.disable()  # nothing that is loaded is garbage, and looking for it takes a seventh of the time
        from guerdon.cli import main as run

        gc.enable()
        run()
    except KeyboardInterrupt:
        print("stopped; the same command starts over", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
