"""The Device to Cloud face: a tenant as a oneM2M resource tree over HTTP (contract `device-to-cloud.md`).

A request comes in at ``face`` (one ASGI application per mount), which reads headers and body with ``request`` and asks
``addressing`` and ``tree`` what its path means. ``retrieve``, ``create``, ``update`` and ``delete`` do what it wants
with the use cases of `app`; what people write is checked in ``applications`` and ``management``. Answers are what
``reading`` and ``resources`` make of the stores. ``names`` is the one table of short and full names, ``errors`` the one
table of response status codes; ``commands`` is the grammar of outgoing-msg. Resources are rendered with short names and
translated last, so nothing else knows that there are two forms.
"""
