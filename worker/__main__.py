# `python -m worker` is the same as `moderation-worker`.
#
# Nothing lives here but the call; the commands are in worker/cli.

from __future__ import annotations

from worker.cli.entry_point import main

if __name__ == "__main__":
    main()
