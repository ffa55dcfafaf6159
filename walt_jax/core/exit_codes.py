"""Exit codes of every command; docs/troubleshooting.md has the same table."""

DONE = 0
FAULT = 1  # Of the program, with a traceback.
USER_ERROR = 2  # In one line: running the same again does not help.
# By SIGTERM or SIGHUP; what was reached is saved. BSD's EX_TEMPFAIL, which
# schedulers take for "run me again".
STOPPED = 75
# Another process of the run has gone: the same command on every host resumes.
HOST_LOST = 76
INTERRUPTED = 130  # By Ctrl-C: 128 + SIGINT.
BROKEN_PIPE = 141  # Who read the output has gone: 128 + SIGPIPE.

ALL = (DONE, FAULT, USER_ERROR, STOPPED, HOST_LOST, INTERRUPTED, BROKEN_PIPE)
# After these nothing starts a command again by itself.
FINAL = (DONE, USER_ERROR, STOPPED, INTERRUPTED)
