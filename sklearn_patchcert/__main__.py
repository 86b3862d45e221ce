"""`python -m sklearn_patchcert`: the command `patchcert`, if its script is not on the path."""

import sys

from sklearn_patchcert.cli.commands import main

if __name__ == "__main__":
    sys.exit(main())
