"""SenML-ETCH (RFC 8790; 320 and 322) as LwM2M 1.2 uses it in Write-Composite: values, and nulls that take resource
instances away. Without nulls it is plain SenML."""

import json
from dataclasses import replace
from typing import Final

from stellwerk.lwm2m.content import Content, Types
from stellwerk.lwm2m.formats import senml_cbor, senml_json
from stellwerk.lwm2m.formats.cbor_items import write_head, write_text
from stellwerk.lwm2m.formats.content_format import ContentFormat
from stellwerk.lwm2m.formats.errors import EncodeError
from stellwerk.lwm2m.path import Path

_NULL: Final = b"\x02\xf6"


def encode_changes(content_format: int, content: Content, types: Types, root: str) -> bytes:
    """A pack that states ``content`` and takes away what it says to be removed. Raises `EncodeError`."""
    removed = content.removed
    # Before all others, where no base name holds yet.
    names = [root + str(path) for path in removed]
    plain = replace(content, removed=())
    if content_format == ContentFormat.SENML_ETCH_CBOR:
        count = len(plain.entries)
        records = senml_cbor.encode(plain, Path(), types, root)[len(write_head(4, count)) :]
        nulls = b"".join(b"\xa2\x00" + write_text(name) + _NULL for name in names)
        return write_head(4, count + len(names)) + nulls + records
    if content_format == ContentFormat.SENML_ETCH_JSON:
        records = senml_json.encode(plain, Path(), types, root)[1:-1]
        nulls = b",".join(b'{"n":' + json.dumps(name).encode() + b',"v":null}' for name in names)
        return b"[" + b",".join(each for each in (nulls, records) if each) + b"]"
    raise EncodeError(content_format, removed[0] if removed else None, "it has no null; SenML-ETCH has")
