"""`python -m sweeps`, and the script of that name."""

from typing import NoReturn

from sweeps import origins


def main() -> NoReturn:
    """Run the command line; before anything else is imported, the working folder is taken off the path."""
    origins.forget_working_folder()
    from sweeps.commands import app

    app.main()


if __name__ == "__main__":
    main()
