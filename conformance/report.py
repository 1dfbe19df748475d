"""A report of a run: as text, as JUnit XML, and as an HTML page."""

from __future__ import annotations

import datetime as dt
import re
from html import escape
from xml.etree import ElementTree as ET

from conformance.runner import Report
from conformance.verdict import Outcome, Result

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ORDER = (Outcome.BROKEN, Outcome.NOT_RUN, Outcome.KEPT)
_STYLE = """
:root { color-scheme: light dark; --text: #1b1f23; --ground: #fff; --line: #d0d7de;
  --quiet: #57606a; --kept: #116329; --broken: #b3261e; --broken-ground: #fff0ee; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6edf3; --ground: #0d1117; --line: #30363d; --quiet: #9aa4af;
    --kept: #56d364; --broken: #ff8a80; --broken-ground: #2c1512; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--text); background: var(--ground); }
h1 { font-size: 1.6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.counts { display: flex; flex-wrap: wrap; gap: .5rem 2rem; padding: 0; list-style: none; }
.counts strong { font-size: 1.6rem; }
.kept { color: var(--kept); } .broken { color: var(--broken); } .not-run { color: var(--quiet); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; min-width: 40rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem;
  border-top: 1px solid var(--line); }
th { color: var(--quiet); font-weight: 600; font-size: .9rem; }
th:last-child, td:last-child { text-align: right; font-variant-numeric: tabular-nums; }
td:nth-child(2) { white-space: nowrap; }
td:nth-child(3) { color: var(--quiet); }
.detail { display: block; margin-top: .25rem; overflow-wrap: anywhere; white-space: pre-wrap; }
.of-broken .detail { padding: .25rem .5rem; background: var(--broken-ground); }
"""


def line(result: Result) -> str:
    """One result as a line of text, with a second one if there is something to say."""
    first = f"{result.outcome.value:8} {result.id:26} {result.seconds:6.2f} s"
    return (
        f"{first}\n         {result.promise}\n         {result.detail}" if result.detail else first
    )


def ending(report: Report) -> str:
    """The end of the text report: what is missing, what is broken, and the counts."""
    missing: dict[str, list[str]] = {}
    for result in report.results:
        if result.outcome is Outcome.NOT_RUN:
            missing.setdefault(result.detail, []).append(result.id)
    lines = [f"not run: {reason}: {', '.join(ids)}" for reason, ids in missing.items()]
    lines += [
        f"broken: {result.id}: {result.detail}"
        for result in report.results
        if result.outcome is Outcome.BROKEN
    ]
    return "\n".join(("", *lines, summary(report)))


def summary(report: Report) -> str:
    """The counts, as one line."""
    counts = ", ".join(f"{report.count(outcome)} {outcome.value}" for outcome in Outcome)
    return f"{report.url}: {counts}, in {report.seconds:.0f} s"


def junit(report: Report) -> str:
    """JUnit XML, as CI systems read it."""
    suite = ET.Element(
        "testsuite",
        name="conformance",
        tests=str(len(report.results)),
        failures=str(report.count(Outcome.BROKEN)),
        errors="0",
        skipped=str(report.count(Outcome.NOT_RUN)),
        time=f"{report.seconds:.3f}",
        timestamp=_when(report),
    )
    for result in report.results:
        case = ET.SubElement(
            suite,
            "testcase",
            name=result.id,
            classname=f"conformance.{result.section}",
            time=f"{result.seconds:.3f}",
        )
        text = _NOT_XML.sub("\ufffd", f"{result.promise} {result.detail}")
        if result.outcome is Outcome.BROKEN:
            ET.SubElement(case, "failure", message=text)
        elif result.outcome is Outcome.NOT_RUN:
            ET.SubElement(case, "skipped", message=text)
    suites = ET.Element("testsuites")
    suites.append(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suites, "unicode") + "\n"


def html(report: Report) -> str:
    """A page of its own, without scripts: what is broken first."""
    counts = "\n".join(
        f'<li class="{_class(outcome) if report.count(outcome) else "not-run"}">'
        f"<strong>{report.count(outcome)}</strong> {outcome.value}"
        for outcome in _ORDER
    )
    tables = "\n".join(_table(report, outcome) for outcome in _ORDER if report.count(outcome))
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Conformance of {escape(report.url)}</title>
<style>{_STYLE}</style>
<h1>Conformance of {escape(report.url)}</h1>
<ul class="counts">
{counts}
</ul>
<p>Run on {_when(report).replace("T", " at ")} UTC, in {report.seconds:.0f} seconds.</p>
{tables}
</html>
"""


def _table(report: Report, outcome: Outcome) -> str:
    rows = "\n".join(_row(result) for result in report.results if result.outcome is outcome)
    return f"""<h2 class="{_class(outcome)}">{outcome.value.capitalize()}</h2>
<div class="scroll"><table class="of-{_class(outcome)}">
<thead><tr><th scope="col">Promise<th scope="col">Case<th scope="col">Contract\
<th scope="col">Seconds</thead>
<tbody>
{rows}
</tbody>
</table></div>"""


def _row(result: Result) -> str:
    detail = f'<code class="detail">{escape(result.detail)}</code>' if result.detail else ""
    return (
        f"<tr><td>{escape(result.promise)}{detail}<td><code>{result.id}</code>"
        f"<td>{escape(result.section)}<td>{result.seconds:.2f}"
    )


def _class(outcome: Outcome) -> str:
    return outcome.value.replace(" ", "-")


def _when(report: Report) -> str:
    moment = dt.datetime.fromtimestamp(report.started_at, dt.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S")
