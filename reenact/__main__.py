"""`python -m reenact`: the same as the `reenact` command."""

from reenact.cli import main

if __name__ == "__main__":
    main()
