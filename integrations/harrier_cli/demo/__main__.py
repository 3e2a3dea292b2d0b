"""`python -m harrier_cli.demo` is `harrier demo`."""

import sys

from harrier_cli.app import main

sys.argv[1:1] = ["demo"]
main()
