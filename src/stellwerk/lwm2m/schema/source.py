"""An imported definition as it is kept in memory: its XML, compressed, until a device has such an object.

A registry of four hundred definitions takes 1 MB so, a quarter of what its models would take; and a start reads no XML.
"""

import zlib
from dataclasses import dataclass, field

from stellwerk.lwm2m.schema.ddf import DdfError, load_ddf
from stellwerk.lwm2m.schema.model import ObjectModel


@dataclass(frozen=True, slots=True, eq=False)
class CompressedSource:
    """One object of a DDF file (implements `library.Source`)."""

    object_id: int
    version: str
    _packed: bytes = field(repr=False)

    @staticmethod
    def of(object_id: int, version: str, xml: bytes) -> "CompressedSource":
        return CompressedSource(object_id, version, zlib.compress(xml, 1))

    def load(self) -> ObjectModel | None:
        """The model, or None where the file does not define it: a release may refuse what an older one took."""
        try:
            models = load_ddf(zlib.decompress(self._packed))
        except DdfError:
            return None
        wanted = (self.object_id, self.version)
        return next((each for each in models if (each.id, each.version) == wanted), None)
