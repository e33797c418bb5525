"""What the documents say of the code is what the code holds."""

from __future__ import annotations

import ast
import re
from types import ModuleType
from typing import Any

import pytest
from documents import ROOT, SOURCES, load, page, rows, variables_read

from visionloop.components.calls import STAGES, STAGES_OF
from visionloop.components.evaluate.gate import GateFile
from visionloop.core import names, policy, receipts, reservation, runs, secrets
from visionloop.core.errors import RETRYABLE
from visionloop.core.receipts import Receipt
from visionloop.core.stores import VARIABLES
from visionloop.core.variables import OURS
from visionloop.data import images
from visionloop.data.annotations.split import FILL
from visionloop.pipelines.engines.argo.templates import NEVER_RAN, RETRY_EXPRESSION
from visionloop.registry import versions as registry
from visionloop.training.configuration.sources import OLD_VARIABLES, SINGLE_VARIABLES

tables: ModuleType = load("docs/tables.py")


def test_every_table_is_current() -> None:
    pages = tables.pages()
    assert {entry.name for entry in pages} == {"contract.md", "configuration.md", "dice.md", "events.md", "README.md"}
    for entry in pages:
        text = entry.read_text(encoding="utf-8")
        assert tables.current(text) == text, f"{entry.name}: run .venv/bin/python docs/tables.py"


def test_every_table_stands_somewhere() -> None:
    used = {match[2] for entry in tables.pages() for match in tables.BLOCK.finditer(entry.read_text(encoding="utf-8"))}
    assert used == set(tables.TABLES)


def test_a_table_notices_a_change() -> None:
    text = page("docs/contract.md").replace("| 76 | `OOM` |", "| 99 | `OOM` |")
    assert tables.current(text) != text


def test_the_retried_exit_codes_are_those_of_the_errors() -> None:
    assert f"`{RETRY_EXPRESSION}`" in page("docs/contract.md")
    assert RETRY_EXPRESSION.endswith(f" in {[NEVER_RAN, *RETRYABLE]}")


def test_the_receipt_has_the_fields_that_the_contract_tells() -> None:
    assert [row[0] for row in rows("docs/contract.md", "field")] == ticked(Receipt.__struct_fields__)


def test_the_gate_has_the_fields_that_the_contract_tells() -> None:
    assert [row[0] for row in rows("docs/contract.md", "field", 1)] == ticked(GateFile.__struct_fields__)


def test_a_failure_has_the_fields_that_the_contract_tells() -> None:
    (sentence,) = re.findall(r"failure\.json` holds (.+?)\n\n", page("docs/contract.md"), re.DOTALL)
    assert re.findall(r"`(\w+)`", sentence) == list(runs.Failure.__struct_fields__)


def test_a_version_has_the_tags_that_the_contract_tells() -> None:
    fields = {row[0].split("`")[1] for row in rows("docs/contract.md", "tag")}
    tags = [value for name, value in vars(registry).items() if name.isupper() and isinstance(value, str)]
    assert fields == {value for value in tags if value.startswith("visionloop.")}


def test_every_stage_has_a_part_in_the_contract() -> None:
    headings = re.findall(r"^### (\w+)$", page("docs/contract.md"), re.MULTILINE)
    assert [name for name in headings if name in STAGES] == list(STAGES)


def test_the_outputs_are_those_that_the_stages_write() -> None:
    output = {row[0]: set(re.findall(r"`([\w.]+)`", " ".join(row[1:]))) for row in rows("docs/contract.md", "stage")}
    written: dict[str, set[str]] = {}
    for name in output:
        modules = sorted((ROOT / "components" / name).glob("*.py"))
        source = "\n".join(module.read_text(encoding="utf-8") for module in modules)
        written[name] = set(
            re.findall(r'(?:attempt\.(?:write|upload)\(|_put\(attempt, )"?[\w.]+"?, f?"([\w.]+)', source)
        )
    assert output == written


def test_the_headings_that_sources_name_exist() -> None:
    text = " ".join(" ".join(source.read_text(encoding="utf-8").split()) for source in SOURCES)
    named = set(re.findall(r'(docs/\w+\.md), "([^"]+)"', text))
    assert named
    for name, heading in named:
        assert re.search(rf"^#+ {re.escape(heading)}$", page(name), re.MULTILINE), f"{name} has no heading {heading}"


def test_the_findings_are_those_of_the_checks() -> None:
    fields = {row[0].strip("`"): row[1].strip("*") for row in rows("docs/dice.md", "finding")}
    folder = ROOT / "visionloop/data"
    # The table itself is not a source of findings.
    paths = [path for path in folder.rglob("*.py") if path.name != "codes.py"]
    sources = [path.read_text(encoding="utf-8") for path in paths]
    results: dict[str, set[str]] = {}
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        match node:
            case ast.Call(func=ast.Name(id="_error" | "_warning" as kind), args=[_, ast.Constant(value=str(code)), *_]):
                results.setdefault(code, set()).add(kind.removeprefix("_"))
            case ast.Call(args=[ast.Constant(value="error" | "warning" as kind), ast.Constant(value=str(code)), *_]):
                results.setdefault(code, set()).add(kind)
            case ast.Call(func=ast.Name(id="_general"), args=[_, ast.Constant(value=str(code)), *_]):
                results.setdefault(code, set()).add("warning")
            case ast.Tuple(
                elts=[_, ast.Constant(value="error" | "warning" as kind), ast.Constant(value=str(code)), *_]
            ):
                results.setdefault(code, set()).add(kind)
            case ast.Call(args=[_, ast.Constant(value="error" | "warning" as kind), ast.Constant(value=str(code)), *_]):
                results.setdefault(code, set()).add(kind)
    assert fields == {code: ", ".join(sorted(kinds)) for code, kinds in results.items()}


def test_every_variable_that_is_read_is_documented() -> None:
    in_docs, read = documented(), variables_read()
    assert len(read) > 30
    assert read - in_docs == set()
    assert {*SINGLE_VARIABLES, *OLD_VARIABLES} - in_docs == set()
    for prefix in {prefix for prefixes in VARIABLES.values() for prefix in prefixes}:
        assert {f"{prefix}{name}" for name in ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY")} <= in_docs


def test_no_variable_is_documented_that_nothing_names() -> None:
    existing = variables_read() | {*SINGLE_VARIABLES, *OLD_VARIABLES}
    sources = "\n".join(source.read_text(encoding="utf-8") for source in SOURCES)
    prefixes = tuple(prefix for entry in VARIABLES.values() for prefix in entry)
    for name in documented() - existing:
        assert name.startswith(prefixes) or f'"{name}"' in sources, f"{name} is read by nothing"


def documented() -> set[str]:
    """The variables that docs/configuration.md describes, but for those from before, which nothing reads."""
    text = page("docs/configuration.md").partition("\n### Variables from before")[0]
    return {
        name
        for name in re.findall(r"`([A-Za-z_][A-Za-z0-9_]+)`", text)
        if name.isupper() or name in ("no_proxy", "__pyfunc_model_path__", "url")
    } - NOT_VARIABLES


#: Words in capitals on that page that are not variables.
NOT_VARIABLES = {"DEBUG", "INFO", "WARNING", "ERROR"}


def ticked(names: Any) -> list[str]:
    return [f"`{name}`" for name in names]


def test_the_picture_is_current() -> None:
    module = load("docs/images/draw.py")
    assert module.FILE.read_text(encoding="utf-8") == module.draw()
    assert (*module.TOLD, "cleanup") == STAGES_OF["train"]


def test_the_picture_of_the_layers_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load("docs/layers.py")
    assert module.FILE.read_text(encoding="utf-8") == module.draw(), "run .venv/bin/python docs/layers.py"
    assert list(module.TOLD) == module.rooms()
    assert module.arrows()["pipelines", "core"] > 0
    monkeypatch.setattr(module, "arrows", lambda: {("core", "pipelines"): 1})
    with pytest.raises(ValueError, match="core imports from pipelines"):
        module.draw()


def test_the_figures_of_the_contract_are_those_of_the_code() -> None:
    text = " ".join(page("docs/contract.md").split())
    for entry in (
        f"A reservation is renewed every {reservation.RENEW_SECONDS:g} s",
        f"a reader saw no change for {reservation.STALE_SECONDS:g} s",
        f"not older than {runs.FAILURE_COUNTS_SECONDS // 60} minutes",
        f"at most {policy.QUARANTINE_LIMIT * 100:g} % of them",
        f"no finished work for {policy.SILENCE_SECONDS} s",
        f"told at most every {policy.SIGN_OF_LIFE_SECONDS} s",
        f"the stage's limit plus {policy.ENGINE_DEADLINE_MARGIN // 60} minutes",
        f"The whole run's limit is {policy.RUN_DEADLINE_SECONDS // 3600} h",
        f"the first {images.HEADER_BYTES // 2**10} KB of each",
        f"the rule above with {FILL.train}, {FILL.val}, {FILL.test} and seed {FILL.seed}",
        f"at most {names.LONGEST} characters",
        f"`schema` | {receipts.SCHEMA};",
    ):
        assert entry in text, entry


def test_every_variable_of_a_secret_is_told_with_its_meaning_and_stripped() -> None:
    text = page("docs/configuration.md").partition("\n## Settings")[0]
    tables_of_meanings = text.partition("\n### Secrets\n")[0]
    for entry in secrets.CREDENTIALS:
        assert f"`{entry.name}`" in tables_of_meanings
    the_systems = {"HOME", "XDG_CACHE_HOME", "__pyfunc_model_path__", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "url"}
    the_systems.add("CUDA_VISIBLE_DEVICES")
    assert {name for name in documented() if not OURS.fullmatch(name)} == the_systems


def test_what_sounds_like_a_secret_is_listed_as_one() -> None:
    sounds = re.compile(r"SECRET|PASSWORD|TOKEN$|COOKIE|(NOTIFY|EVENTS|CALLBACK|DATABASE)_URL")
    assert {name for name in documented() if sounds.search(name)} == {entry.name for entry in secrets.SECRETS}
