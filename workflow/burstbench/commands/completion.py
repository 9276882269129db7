"""Completion for shells: what may follow, asked of the command line itself, so that it is never out of date."""

import argparse
import os

import argcomplete

SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("shell", choices=SHELLS, help='for bash: eval "$(burstbench completion bash)" in ~/.bashrc')


def run(args: argparse.Namespace) -> None:
    """Print the script that a shell reads at its start."""
    print(argcomplete.shellcode(["burstbench"], shell=args.shell))


def complete() -> None:
    """Answer a shell that asks what may follow, and end the process."""
    from burstbench.cli import make_parser

    words = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])].split()[1:]
    argcomplete.autocomplete(make_parser(words)[0])
