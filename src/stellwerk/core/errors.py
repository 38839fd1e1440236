"""The root of the project's errors and its two branches."""


class StellwerkError(Exception):
    """Root of every error that Stellwerk raises on purpose. Facts are fields; the text derives from them."""


class PeerError(StellwerkError):
    """The other side broke the rules: raised by decoders, answered or dropped by their callers, never a crash."""


class UserError(StellwerkError):
    """A person or program asked for something impossible: says what was wrong, where, and what would be right."""
