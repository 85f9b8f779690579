"""What every chapter keeps to, so that its changes can be read and its claims are checked."""

import ast
import json
from pathlib import Path

import pytest

BOOK = Path(__file__).parents[1] / "book"
CHAPTERS = sorted((BOOK / "chapters").glob("*.ipynb"))


def code_cells(chapter):
    cells = json.loads(chapter.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_there_are_chapters():
    assert CHAPTERS


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_chapter_is_stored_without_outputs(chapter):
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code_cells(chapter))


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_cells_have_at_most_fifteen_lines(chapter):
    assert max(len("".join(cell["source"]).splitlines()) for cell in code_cells(chapter)) <= 15


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_last_code_cell_asserts_what_the_chapter_claims(chapter):
    last = ast.parse("".join(code_cells(chapter)[-1]["source"]))
    assert any(isinstance(node, ast.Assert) for node in ast.walk(last))


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_chapter_asks_for_the_kernel_that_everyone_has(chapter):
    metadata = json.loads(chapter.read_text(encoding="utf-8"))["metadata"]
    assert metadata["kernelspec"]["name"] == "python3"
