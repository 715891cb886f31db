"""This is where every example of the README and of docs/ is run: at a plain prompt, with a real server and a worker."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.docs.pages import Block, Example, Reading, blocks, examples, pages
from tests.docs.typist import Typist
from tests.nodes.server import ValkeyNode
from tests.nodes.workers import WorkerNode

# A worker boots in some seconds, more on a busy machine; a person waits for it too.
PATIENCE = 60.0
# The address that pages show; a test has another one.
_ADDRESS = re.compile(r"redis://localhost:6379/(\d)")


@dataclass
class Desk:
    """One page's folder, prompt and worker."""

    folder: Path
    environment: Mapping[str, str]
    valkey: ValkeyNode
    stack: ExitStack
    reading: Reading = field(default_factory=Reading)
    typist: Typist | None = None

    def run(self, block: Block) -> None:
        """Do what a block shows."""
        if block.language == "python" and block.title:
            (self.folder / block.title).write_text(self.addressed(block.text), encoding="utf-8")
        elif block.language == "python":
            path = self.folder / f"block_{block.line}.py"
            path.write_text(self.addressed(block.text), encoding="utf-8")
            lines = (f"exec(compile(open({str(path)!r}).read(), {path.name!r}, 'exec'))",)
            self.type(Example(block.place, lines, ""))
        else:
            for example in examples(block):
                self.command(example) if block.language == "console" else self.type(example)

    def type(self, example: Example) -> None:
        """Type a statement, and see that the page shows what it says."""
        if self.typist is None:
            self.typist = Typist(self.folder, self.environment)
            self.stack.callback(self.typist.end)
        lines = [self.addressed(line) for line in example.lines]
        said = self.typist.type(lines, lambda said: self.reading.agrees(example.output, said), PATIENCE)
        assert self.reading.agrees(example.output, said), self.difference(example, said)

    def command(self, example: Example) -> None:
        """Run a command of a shell, where it is one that a test can run."""
        (line,) = example.lines
        words = shlex.split(self.addressed(line), comments=True)
        if words[0] == "celery" and "worker" in words:
            module = words[words.index("-A") + 1]
            queues = ["-Q", words[words.index("-Q") + 1]] if "-Q" in words else []
            node = WorkerNode(
                module, pool="threads", concurrency=4, cwd=self.folder, extra=queues, env=self.environment
            )
            self.stack.enter_context(node)
        elif words[0] == "python":
            done = subprocess.run(
                [sys.executable, *words[1:]],
                cwd=self.folder,
                env=dict(self.environment),
                text=True,
                capture_output=True,
                timeout=PATIENCE,
            )
            # What a person sees comes from both, in an order that pipes do not keep: a page shows what is printed.
            agrees = self.reading.agrees(example.output, done.stdout)
            assert agrees, self.difference(example, done.stdout + done.stderr)

    def addressed(self, text: str) -> str:
        """The text with the address of this test's server."""
        return _ADDRESS.sub(lambda shown: self.valkey.celery_url(int(shown[1])), text)

    @staticmethod
    def difference(example: Example, said: str) -> str:
        """Tell what a page should show."""
        statement = "\n".join(example.lines)
        return f"{example.place}\n{statement}\n--- the page shows\n{example.output}\n--- it said\n{said}"


@pytest.fixture
def desk(tmp_path: Path, environment: dict[str, str], start_valkey: type[ValkeyNode]) -> Iterator[Desk]:
    """A place to do what a page shows; what it started ends with the test."""
    folder = tmp_path / "page"
    folder.mkdir()
    with ExitStack() as stack:
        yield Desk(folder, environment, start_valkey(), stack)


def _with_examples() -> list[Path]:
    return [page for page in pages() if list(blocks(page))]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", _with_examples(), ids=lambda page: page.name)
def test_a_page_shows_what_its_examples_do(page: Path, desk: Desk) -> None:
    """Every example of a page, done in the page's order, gives the output that the page shows."""
    for block in blocks(page):
        desk.run(block)
    rest = desk.typist.leave() if desk.typist is not None else ""

    assert rest.strip() == ""
