"""Runs the README's lines against a running `stellwerk demo`, as they stand there.

    python tools/readme_check.py [--file README.md] [--http HOST:PORT] [--coap HOST:PORT] [--coaps HOST:PORT]

A block fenced with ``sh run`` is run by sh; ``sh run background`` keeps running until the end. Comments behind a block
say what its output must contain (blanks do not count): ``<!-- expect: TEXT -->``. ``<!-- expect within 10 s: TEXT -->``
runs the block again until its output has everything or the time is over; only for blocks that may be repeated.
``--http``, ``--coap`` and ``--coaps`` replace the demo's addresses and nothing else. Exit status 1 when something is
missing.
"""

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HTTP = "127.0.0.1:8080"
COAP = "127.0.0.1:5683"
COAPS = "127.0.0.1:5684"
COMMAND_WITHIN_S = 20.0
PAUSE_S = 0.1

_FENCE = re.compile(r"^```(?P<words>.*)$")
_EXPECT = re.compile(r"^<!-- expect(?: within (?P<within_s>\d+) s)?: (?P<text>.+) -->$")


@dataclass(slots=True)
class Block:
    """A fenced block: its words behind the fence, its text, its first line's number, what its output must contain, and
    for how many seconds it may be repeated until it does."""

    words: tuple[str, ...]
    line: int
    text: str = ""
    expected: list[str] = field(default_factory=list)
    within_s: float = 0.0

    @property
    def runs(self) -> bool:
        return self.words[:2] == ("sh", "run")

    @property
    def in_background(self) -> bool:
        return "background" in self.words


def read_blocks(markdown: str) -> list[Block]:
    """Every fenced block in order, with the expectations that follow it."""
    blocks: list[Block] = []
    inside = False
    for number, line in enumerate(markdown.splitlines(), 1):
        if inside:
            if line == "```":
                inside = False
            else:
                blocks[-1].text += line + "\n"
        elif fence := _FENCE.match(line):
            blocks.append(Block(tuple(fence["words"].split()), number + 1))
            inside = True
        elif blocks and (expectation := _EXPECT.match(line)):
            blocks[-1].expected.append(expectation["text"])
            blocks[-1].within_s = max(blocks[-1].within_s, float(expectation["within_s"] or 0))
    return blocks


def missing_in(output: str, expected: Sequence[str]) -> list[str]:
    """The texts that ``output`` lacks; JSON may be printed with or without blanks."""
    bare = re.sub(r"\s", "", output)
    return [text for text in expected if re.sub(r"\s", "", text) not in bare]


def run_block(block: Block, text: str) -> str | None:
    """Runs a block to its end, again while its time lasts; what is wrong in the end, or None."""
    give_up = time.monotonic() + block.within_s
    while True:
        try:
            done = subprocess.run(
                ["sh", "-e", "-c", text],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=COMMAND_WITHIN_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"still running after {COMMAND_WITHIN_S:.0f} s"
        missing = missing_in(done.stdout, block.expected)
        if done.returncode == 0 and not missing:
            return None
        if time.monotonic() >= give_up:
            what = f"status {done.returncode}" if done.returncode else f"lacks {', '.join(missing)}"
            return f"{what}\n--- output\n{done.stdout}{done.stderr}"
        time.sleep(PAUSE_S)


def check(markdown: str, http: str = HTTP, coap: str = COAP, coaps: str = COAPS) -> list[str]:
    """Runs every block that is marked for it, in order; one complaint for each that fails."""
    complaints = []
    background: list[tuple[Block, subprocess.Popen[bytes]]] = []
    try:
        for block in read_blocks(markdown):
            if not block.runs:
                continue
            text = block.text.replace(HTTP, http).replace(COAP, coap).replace(COAPS, coaps)
            if block.in_background:
                started = subprocess.Popen(
                    ["sh", "-e", "-c", f"exec {text}"],
                    cwd=ROOT,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                background.append((block, started))
            elif (complaint := run_block(block, text)) is not None:
                complaints.append(f"line {block.line}: {complaint}\n--- block\n{text}")
        for block, started in background:
            if started.poll() is not None:
                complaints.append(f"line {block.line}: ended with {started.returncode}\n--- block\n{block.text}")
    finally:
        for _, started in background:
            started.terminate()
            try:
                started.wait(10)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()
    return complaints


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the README's lines against a running demo.")
    parser.add_argument("--file", type=Path, default=ROOT / "README.md")
    parser.add_argument("--http", default=HTTP, help="where the demo listens for HTTP (%(default)s)")
    parser.add_argument("--coap", default=COAP, help="where the demo listens for CoAP (%(default)s)")
    parser.add_argument("--coaps", default=COAPS, help="where the demo listens for CoAP over DTLS (%(default)s)")
    options = parser.parse_args()
    complaints = check(options.file.read_text(encoding="utf-8"), options.http, options.coap, options.coaps)
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
