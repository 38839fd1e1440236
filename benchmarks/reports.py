"""Tables in Markdown, and their places in a page."""

import os
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """``columns``: their heads; one that starts with a blank is aligned to the right."""
    marks = ["---:" if each.startswith(" ") else "---" for each in columns]
    lines = [columns, marks, *rows]
    return "\n".join("| " + " | ".join(cell.strip() for cell in line) + " |" for line in lines)


def command_line() -> str:
    """How this program was called."""
    words = [word for index, word in enumerate(sys.argv[1:], 1) if "--write" not in (word, sys.argv[index - 1])]
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words])


def machine() -> str:
    """Where it ran, in a few words."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    kernel = platform.release().partition("-")[0]
    return f"{os.cpu_count()} cores ({model}), Linux {kernel}, Python {platform.python_version()}"


def write(target: Path, name: str, text: str) -> None:
    """Put ``text`` into the page between the markers of ``name``, which it has already. Ends the program otherwise."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    page = target.read_text()
    if begin not in page or end not in page:
        raise SystemExit(f"bench: {target} has no lines {begin} and {end}")
    head, _, rest = page.partition(begin)
    target.write_text(f"{head}{begin}\n{text}\n{end}{rest.partition(end)[2]}")


def publish(name: str, text: str, target: str | None) -> None:
    """Print a section, and write it into a page if there is one."""
    print(text)
    if target:
        write(Path(target), name, text)
