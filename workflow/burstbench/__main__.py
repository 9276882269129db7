"""`python -m burstbench`: the same as the `burstbench` command."""

from burstbench.cli import main

if __name__ == "__main__":
    main()
