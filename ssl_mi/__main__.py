"""`python -m ssl_mi COMMAND ...`: the command `ssl-mi` where scripts are not on the path."""

import sys

from ssl_mi.app.main import main

if __name__ == "__main__":
    sys.exit(main())
