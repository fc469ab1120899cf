"""What runs on a board: standard library only, Python 3.9 or newer, sent as one zipapp.

A job (JSON, one line on standard input) names steps; each step is `check() -> Diff`, `apply()`, `verify()`.
Events (JSON lines on standard output) tell the workstation what happens.
"""
