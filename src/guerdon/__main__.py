"""`python -m guerdon` is the command `guerdon`: launchers such as torchrun start modules."""

from guerdon.cli import main

if __name__ == "__main__":
    main()
