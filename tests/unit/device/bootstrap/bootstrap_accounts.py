"""Accounts and configurations for tests of bootstrapping."""

from typing import Any

from stellwerk.device.bootstrap.account import Account, ClientKeys, OscoreKeys
from stellwerk.device.bootstrap.configuration import BootstrapConfiguration, parse_bootstrap

KEY = bytes.fromhex("8f3a11c95e0077d2a4b86c19e3f0425d")
SECRET = bytes.fromhex("c41f9a0233e75b68d0127f8e946ab35c")
OSCORE_KEYS = OscoreKeys(b"\x01dev", b"\x02srv", SECRET, b"\x09salt", b"\xff\x10")


def entry(**members: Any) -> dict[str, Any]:
    return {"securityMode": "NO_SEC", "host": "dm.example.org", "port": 5683} | members


BOOTSTRAP = entry(bootstrapServerIs=True, shortServerId=None, host="bs.example.org", port=5687)


def configuration(*entries: dict[str, Any], acls: Any = (), updates: bool = True) -> BootstrapConfiguration:
    return parse_bootstrap({"bootstrap": list(entries), "bootstrapServerUpdateEnable": updates, "acls": list(acls)})


def accounts(of: BootstrapConfiguration, keys: ClientKeys | None = None) -> list[Account]:
    """With ``keys`` for all, else pre-shared ones where the mode is PSK."""
    usual = {"psk": ClientKeys("psk", b"id1", KEY, OSCORE_KEYS), "nosec": ClientKeys(oscore=OSCORE_KEYS)}
    return [Account(each, keys or usual[each.mode]) for each in of.given]
