"""`python -m roundsman`."""

from roundsman.cli import main

main()
