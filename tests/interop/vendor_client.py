"""The vendor's own client, as a program in an environment of its own (tests/interop/d2c/fetch.sh)."""

import json
import os
import re
import runpy
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

from fetched import fetch
from served import TENANT, Served

FETCH = Path(__file__).parent / "d2c" / "fetch.sh"
CONFIGURATION = Path(__file__).parent / "d2c" / "configuration.py"
_COLOUR = re.compile(r"\x1b\[\d+m")


@cache
def environment() -> tuple[str, str]:
    """The folder the client lives in, and nothing; or nothing, and why it cannot run here."""
    return fetch(FETCH, sys.executable)


@cache
def samples() -> dict[str, Any]:
    """What the client's own test sets do, by the names of its variables, as they are shipped."""
    [file] = Path(environment()[0]).glob("lib/*/site-packages/dtiot_d2c/d2c/test/sample_test_configuration.py")
    found = {name: each for name, each in runpy.run_path(str(file)).items() if isinstance(each, dict)}
    return {name: json.loads(json.dumps(found[name]).replace("%RUNID%", "1")) for name in found if "Cfg" in name}


class VendorClient:
    """``d2c`` with a profile for one server: short names, a token from the token endpoint."""

    def __init__(self, server: Served, folder: Path) -> None:
        self._folder = folder
        base = f"http://127.0.0.1:{server.http_port}"
        secret = server.run("client", "add", "d2c", "--tenant", TENANT).split()[-1]
        profiles = folder / ".d2c" / "profiles"
        profiles.mkdir(parents=True)
        self._profile = profiles / "interop.profile"
        elements = {
            "profileName": "interop",
            "apiUrl": f"{base}/onem2m/{TENANT}",
            "getTokenUrl": f"{base}/oauth/token",
            "clientId": "d2c",
            "clientSecret": secret,
            "noAuthUrl": "",
        }
        self._profile.write_text(json.dumps(elements))
        settings = {"activeProfileFile": str(self._profile), "profilesDir": str(profiles)}
        (folder / ".d2c" / "config.json").write_text(json.dumps(settings))

    def __call__(self, command: str, *words: str) -> str:
        """What the command prints. An AssertionError with all of it where the command failed."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "STELLWERK_"))}
        own |= {"HOME": str(self._folder), "D2CCLI_TEST": "1", "SHOW_SECRETS": "1"}
        done = subprocess.run(
            [f"{environment()[0]}/bin/d2c", command, "-p", str(self._profile), *words],
            env=own,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        said = _COLOUR.sub("", done.stdout)
        # A command line that it does not understand ends with 0 as well.
        assert done.returncode == 0, said + done.stderr
        assert "error:" not in done.stderr, done.stderr
        return said

    def json(self, command: str, *words: str) -> Any:
        return json.loads(self(command, *words))

    def test_set(self, name: str, configuration: str | None = None) -> str:
        """One of the client's own test sets; what it made stays. It names provisioning requests by the second, so that
        two of them in one second would be a conflict."""
        if name.startswith("test-d"):
            time.sleep(1.0)
        chosen = ("-cf", str(CONFIGURATION), "-cd", configuration) if configuration else ()
        said = self(name, "-i", "1", *chosen, "--skip-post-cleanup")
        assert "*** END OK ***" in said, said
        return said
