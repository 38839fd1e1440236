"""Object models: what the objects of a device are made of, and which definition of them applies.

`model` says what an object definition is and `builtin` has those that come with Stellwerk; `ddf` loads others from
the XML of a registry or vendor, which `source` keeps compressed until a device has such an object. A `library.Library`
keeps models by object and version, for all devices and for those of one tenant, and picks them for a device by what it
registered; the resulting `library.DeviceTypes` is what formats (`content.Types`), `checks` (may this be sent?) and
`values` (command text and JSON to typed values) ask. Nothing here ever stops a device from having objects and resources
that no model knows: those are decoded by what their format says.

Start reading at `library.Library.choose`.
"""
