"""`python -m quarterdeck`: the command `qd`, wherever its script is."""

from quarterdeck.cli.main import main

main()
