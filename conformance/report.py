"""A report of a run: as text, as JUnit XML, and as an HTML page."""

from __future__ import annotations

import datetime as dt
import re
from html import escape
from xml.etree import ElementTree as ET

from conformance.runner import Report
from conformance.verdict import Outcome, Result

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem;
  color: #1b1f23; background: #fff; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem;
  border-top: 1px solid #d0d7de; }
.kept { color: #116329; } .broken { color: #b3261e; font-weight: 600; } .not-run { color: #57606a; }
code { overflow-wrap: anywhere; }
@media (prefers-color-scheme: dark) {
  body { color: #e6edf3; background: #0d1117; } th, td { border-color: #30363d; }
  .kept { color: #56d364; } .broken { color: #ff8a80; } .not-run { color: #8b949e; } }
"""


def line(result: Result) -> str:
    """One result as a line of text, with a second one if there is something to say."""
    first = f"{result.outcome.value:8} {result.id:26} {result.seconds:6.2f} s"
    return (
        f"{first}\n         {result.promise}\n         {result.detail}" if result.detail else first
    )


def summary(report: Report) -> str:
    """The last line of the text report."""
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
    """A page of its own, without scripts."""
    rows = "\n".join(_row(result) for result in report.results)
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Conformance of {escape(report.url)}</title>
<style>{_STYLE}</style>
<h1>Conformance of <code>{escape(report.url)}</code></h1>
<p>{escape(summary(report))}. Run on {_when(report)} UTC.</p>
<table>
<thead><tr><th>Result<th>Promise<th>Contract<th>Case<th>Seconds</thead>
<tbody>
{rows}
</tbody>
</table>
</html>
"""


def _row(result: Result) -> str:
    kind = result.outcome.value.replace(" ", "-")
    detail = f"<br><code>{escape(result.detail)}</code>" if result.detail else ""
    return (
        f'<tr><td class="{kind}">{result.outcome.value}<td>{escape(result.promise)}{detail}'
        f"<td>{escape(result.section)}<td><code>{result.id}</code><td>{result.seconds:.2f}"
    )


def _when(report: Report) -> str:
    moment = dt.datetime.fromtimestamp(report.started_at, dt.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S")
