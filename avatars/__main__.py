"""`python -m avatars`: the same as the `avatars` command."""

from avatars.commands.cli import main

if __name__ == "__main__":
    main()
