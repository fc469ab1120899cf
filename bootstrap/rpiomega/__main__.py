"""`python -m rpiomega`: the same as the `rpiomega` command."""

from rpiomega.cli import main

main()
