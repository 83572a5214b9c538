"""`python -m latentcmp`: the command line, where the packages of the extra `cli` are installed."""

import sys
from importlib.util import find_spec

from latentcmp import CLI_PACKAGES


def main() -> None:
    """Run the command line; exit with status 2 and the pip command where one of its packages is missing."""
    missing = [package for package in CLI_PACKAGES if find_spec(package) is None]
    if missing:
        print(f"Error: {', '.join(missing)} not installed: pip install 'latentcmp[cli]'", file=sys.stderr)
        sys.exit(2)
    from latentcmp.cli import main as run

    run()


if __name__ == "__main__":
    main()
