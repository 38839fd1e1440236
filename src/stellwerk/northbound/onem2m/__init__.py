"""The Device to Cloud face: a tenant as a oneM2M resource tree over HTTP (contract `device-to-cloud.md`).

A request comes in at ``face`` (one ASGI application per mount), which reads headers and body with ``request``, asks
``tree`` what its path means, and answers what ``resources`` renders from the stores. ``names`` is the one table of
short and full names, ``errors`` the one table of response status codes; ``commands`` is the grammar of outgoing-msg.
Resources are rendered with short names and translated last, so nothing else knows that there are two forms.
"""
