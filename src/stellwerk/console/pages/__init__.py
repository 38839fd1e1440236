"""One module for each page; importing this package defines them all."""

from stellwerk.console.pages import device, devices, security

__all__ = ["device", "devices", "security"]
