"""`python -m pydisent` is the command line."""

from pydisent.cli import main

raise SystemExit(main())
