"""Programs of others, put somewhere by a script that prints where, or why it could not."""

import fcntl
import subprocess
from pathlib import Path

LOCKS = Path(__file__).parents[2] / "build" / "interop"


def fetch(script: Path, *arguments: str) -> tuple[str, str]:
    """The last line that the script prints, and nothing; or nothing, and why not. One at a time: test processes that
    run side by side collect the same modules."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    with (LOCKS / f"{script.parent.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = subprocess.run(
            ["sh", str(script), *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    last_line = made.stdout.strip().rpartition("\n")[2]
    return (last_line, "") if made.returncode == 0 else ("", last_line or made.stderr.strip())
