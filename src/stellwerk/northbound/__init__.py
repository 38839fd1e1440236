"""How clients speak to us over HTTP.

``http`` builds the one application out of its faces: ``onem2m`` is Device to Cloud, ``rest`` is what belongs to no
dialect. ``services`` names what faces need of the use cases and stores, ``auth`` says who a caller is, ``server`` runs
an application on a socket. Faces parse and render; what happens is decided in `app`.
"""
