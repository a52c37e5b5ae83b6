"""``python -m kdcore run|ingest|verify REQUEST.json --workdir DIR``: see kdcore.spec.protocol."""

import sys

from kdcore.process.main import main

if __name__ == "__main__":
    sys.exit(main())
