"""What a device is to us: its record, its registration, the observations we want of it, the commands it is owed.

Plain synchronous decisions on values; no I/O, no clock. ``record`` is what people wrote about the device,
``registration`` what the device said of itself and until when that holds, ``observation`` what we want reported,
``command`` the steps a command may take. Memory changes only after the commit of what was decided; `app.handlers`
drives that order.
"""
