"""`python -m prunecell`: the command."""

from prunecell.cli import main

if __name__ == "__main__":
    main()
