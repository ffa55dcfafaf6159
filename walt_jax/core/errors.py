"""The one exception that means "the user can fix this"."""


class UserError(Exception):
  """A wrong flag, config key, file or shape.

  The command line prints it as `walt: error: <message>` on one line and ends
  with exit code 2. The message names the offending value and the fix.
  """
