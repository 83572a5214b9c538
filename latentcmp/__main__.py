"""`python -m latentcmp`."""

from latentcmp.cli import main

main()
