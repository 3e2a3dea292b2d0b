"""`python -m harrier_cli` is `harrier`."""

from harrier_cli.app import main

main()
