"""`python -m kseg` is `kseg`."""

import sys

from kseg.cli.main import main

sys.exit(main())
