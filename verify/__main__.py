"""Runs the command line: `python -m verify`."""

from verify.command.cli import main

if __name__ == "__main__":
    main()
