"""`python -m armt_mini`."""

from armt_mini.cli import main

raise SystemExit(main())
