"""What a server says for people when it refuses something."""

from stellwerk.coap.events import ResponseReceived


def words_of(event: ResponseReceived) -> str:
    """The diagnostic payload (RFC 7252 §5.5.2), which is what the user of a device looks for; empty without one."""
    return event.payload.decode("utf-8", "replace") if event.content_format is None else ""
