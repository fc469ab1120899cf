"""Entry point of the zipapp. Kept readable for old Pythons, so that they get a sentence and not a traceback."""

import json
import sys

if sys.version_info < (3, 9):  # noqa: UP036
    cause = "Python %d.%d is too old, 3.9 is needed" % sys.version_info[:2]  # noqa: UP031
    event = {"event": "failed", "step": "start", "cause": cause, "cure": "write a current system to the card"}
    print(json.dumps(event))
    sys.exit(1)

from rpiomega.node.job import main

sys.exit(main())
