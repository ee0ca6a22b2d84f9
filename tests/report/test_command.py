"""`dspy-bridge report`, as a person runs it."""

from __future__ import annotations

import codecs
import json
from typing import TYPE_CHECKING, Any

import pytest

from bridge.report import command
from bridge.report.command import main
from tests.report.outline import assert_inert
from tests.report.sample import two_hop_run

if TYPE_CHECKING:
    from pathlib import Path


def saved(directory: Path, value: Any) -> Path:
    path = directory / "run.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value), "utf-8")
    return path


def test_the_page_goes_beside_the_run(tmp_path: Path, capsys: Any) -> None:
    assert main([str(saved(tmp_path, two_hop_run()))]) == 0
    written = tmp_path / "run.html"
    assert str(written) in capsys.readouterr().out
    assert assert_inert(written.read_text("utf-8")).one("h1").text == "two_hop"


def test_the_page_goes_where_it_is_told(tmp_path: Path) -> None:
    target = tmp_path / "other.html"
    assert main([str(saved(tmp_path, two_hop_run())), "-o", str(target)]) == 0
    assert target.exists()
    assert not (tmp_path / "run.html").exists()


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda run: {"id": 7, "result": run},
        lambda run: run["result"],
        lambda run: {"id": 7, "result": run["result"]},
        lambda run: {**run, "tenant": None, "request": {"optimizer": "MIPROv2"}},
    ],
    ids=["reply", "optimize", "optimize reply", "kept"],
)
def test_the_run_may_be_saved_in_other_forms(tmp_path: Path, wrapped: Any) -> None:
    assert main([str(saved(tmp_path, wrapped(two_hop_run())))]) == 0
    root = assert_inert((tmp_path / "run.html").read_text("utf-8"))
    assert root.one("h1").text == "two_hop"
    assert len(root.all("article")) == 2


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(codecs.BOM_UTF8 + b'{"run_id": "r"}')
    assert main([str(path)]) == 0


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "3",
        "{}",
        '{"a": 1}',
        '{"runs": []}',
        '{"id": 1, "error": {"code": "not_found"}}',
        '{"id": 1, "result": {}}',
        '{"score": 1, "rows": []}',
    ],
)
def test_a_file_that_holds_no_run_is_refused_in_one_line(
    tmp_path: Path, content: str, capsys: Any
) -> None:
    path = saved(tmp_path, content)
    assert main([str(path)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert str(path) in told.err
    assert not (tmp_path / "run.html").exists()


@pytest.mark.parametrize("name", ["missing.json", ".", ""])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str, capsys: Any) -> None:
    assert main([f"{tmp_path}/{name}" if name else ""]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_page_that_cannot_be_written_is_told(tmp_path: Path, capsys: Any) -> None:
    run = saved(tmp_path, two_hop_run())
    assert main([str(run), "-o", str(tmp_path / "none" / "out.html")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_run_is_never_overwritten(tmp_path: Path) -> None:
    run = saved(tmp_path, two_hop_run()).rename(tmp_path / "run.html")
    before = run.read_bytes()
    assert main([str(run)]) == 2
    assert run.read_bytes() == before


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(command, "MOST_BYTES", 10)
    assert main([str(saved(tmp_path, two_hop_run()))]) == 2


@pytest.mark.parametrize("argv", [[], ["a", "b"], ["run.json", "--colour"]])
def test_wrong_arguments_end_with_status_2(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
