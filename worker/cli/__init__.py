# The commands of `moderation-worker`, a module each, and what they share. Which there are is a table in app.py.
#
# Nothing is imported here: a part of a command loads what it needs itself, and no other command.

from __future__ import annotations
