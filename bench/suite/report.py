"""The report of scripts/bench: medians, ratios, spread and disturbance; as JSON, HTML with SVG, and Markdown.

A sample is {"row", "series", "value"} with optional "p50_us", "p99_us", "per_second" and "disturbed" (a reason), or
{"row", "series", "calls"}: system calls for each operation, or {"row", "series", "failed"}: a reason. All files are complete in
themselves and need no network.
"""
import html
import math
import statistics

SPREAD_MAX = 0.10  # as measure.SPREAD_MAX
EXTRAS = {"per_second": "per second", "p50_us": "p50, us", "p99_us": "p99, us", "calls": "calls"}


def spread(values):
    middle = statistics.median(values)
    return (max(values) - min(values)) / middle if middle else 0.0


def summarize_series(samples):
    """The median of the rounds of one series, its range, and the reasons that make it doubtful; None without a value."""
    measured = [sample for sample in samples if sample.get("value") is not None]
    if not measured:
        return None
    values = [sample["value"] for sample in measured]
    reasons = sorted({sample["disturbed"] for sample in measured if sample.get("disturbed")})
    if len(values) < 3:
        reasons.append(f"{len(values)} round" + "s" * (len(values) > 1))
    elif spread(values) > SPREAD_MAX:
        reasons.append(f"rounds differ by {spread(values):.0%}")
    entry = {"median": statistics.median(values), "low": min(values), "high": max(values), "rounds": values,
             "disturbed": "; ".join(reasons) or None}
    for key in EXTRAS:
        found = [sample[key] for sample in samples if sample.get(key) is not None]
        if found:
            entry[key] = statistics.median(found)
    return entry


def ratios(ours, theirs):
    """The median, least and largest of the ratios of the rounds; of the medians where rounds are missing."""
    if len(ours["rounds"]) == len(theirs["rounds"]) and all(theirs["rounds"]):
        each = [one / other for one, other in zip(ours["rounds"], theirs["rounds"])]
        return [statistics.median(each), min(each), max(each)]
    if not theirs["median"]:
        return None
    return [ours["median"] / theirs["median"]] * 3


def summarize(rows, records):
    """One entry for each row that has a value, in the order of `rows`; and the names of those that have none."""
    samples = {}
    for record in records:
        for sample in record.get("samples", []):
            samples.setdefault(sample["row"], {}).setdefault(sample["series"], []).append(sample)
    made, empty = [], []
    for row in rows:
        series = {name: entry for name, found in samples.get(row.name, {}).items()
                  if (entry := summarize_series(found)) is not None}
        ours = series.get(row.ours)
        if ours is None:
            empty.append(row.name)
            continue
        for entry in series.values():
            entry["ratio"] = ratios(ours, entry)
        reasons = [f"{name}: {series[name]['disturbed']}" for name in (row.ours, row.baseline)
                   if name in series and series[name]["disturbed"]]
        made.append({"row": row.name, "section": row.section, "title": row.title, "unit": row.unit, "ours": row.ours,
                     "baseline": row.baseline, "measures": row.measures, "excludes": row.excludes, "series": series,
                     "ratio": series[row.baseline]["ratio"] if row.baseline in series else None,
                     "disturbed": "; ".join(reasons) or None})
    return made, empty


def left_out(rows, records, jobs, beyond_limit):
    """The reason for each of `rows`, which have no value, and for each job that failed and has rows with one.

    `beyond_limit` has the names of jobs that the time limit has left out.
    """
    failed = {record["job"]: record["failed"] for record in records if "failed" in record}
    refused = {sample["row"]: f"{sample['series']}: {sample['failed']}" for record in records
               for sample in record.get("samples", []) if "failed" in sample}
    ran = {record["job"] for record in records}
    made = {}
    for row in rows:
        own = [job.name for job in jobs if row in job.rows]
        problem = next((failed[name] for name in own if name in failed), None)
        if problem or row in refused:
            made[row] = problem or refused[row]
        elif any(name in beyond_limit for name in own):
            made[row] = "the time limit was reached"
        elif own and ran.isdisjoint(own):
            made[row] = "the run was interrupted"
        else:
            made[row] = "no result: its program or a package is missing"
    for job in jobs:
        if job.name in failed and not set(job.rows) & set(rows):
            made[job.name] = failed[job.name]
    return made


def number(value):
    """Three significant digits, without an exponent."""
    if value is None:
        return ""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{round(value, digits):.{digits}f}" if digits else f"{round(value, 2 - math.floor(math.log10(abs(value)))):.0f}"


def ratio_text(ratio):
    return "" if ratio is None else f"{ratio[0]:.2f}"


STYLE = """
:root { color-scheme: light dark; --text: #1d2329; --back: #fff; --line: #d5dae0; --soft: #f4f6f8; --link: #0a58b5;
  --ours: #1b6ca8; --base: #7a5195; --other: #9aa5b1; --quiet: #5c6670; --better: #17703c; --worse: #a8321b; --warn: #8a5a00; }
@media (prefers-color-scheme: dark) {
  :root { --text: #dde3ea; --back: #14181d; --line: #38414b; --soft: #1e242b; --link: #7db4f5;
    --ours: #5aa9e6; --base: #b08bd0; --other: #66727e; --quiet: #9aa5b1; --better: #66c58c; --worse: #f08a75; --warn: #e0b050; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 84rem; padding: 1rem; font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; }
h2 { margin: 2.5rem 0 .5rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 0 0 .3rem; }
a { color: var(--link); }
p { margin: .4rem 0; }
.small { font-size: .86rem; color: var(--quiet); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .5rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
table.wrap td:first-child { white-space: normal; min-width: 7rem; }
table.wrap td:last-child, table.wrap th:last-child { text-align: left; }
.row { border: 1px solid var(--line); border-radius: 8px; padding: .8rem; margin: .8rem 0; }
.row .parts { display: grid; grid-template-columns: minmax(0, 26rem) minmax(0, 1fr); gap: .5rem 1.5rem; align-items: start; }
.ours { font-weight: 600; color: var(--ours); }
.base { color: var(--base); font-weight: 600; }
.better { color: var(--better); }
.worse { color: var(--worse); }
.mark { color: var(--warn); }
svg { display: block; width: 100%; height: auto; max-width: 26rem; }
svg text { font: 12px system-ui, sans-serif; fill: var(--text); paint-order: stroke; stroke: var(--back); stroke-width: 3px; }
svg .value { fill: var(--quiet); }
nav ul { padding: 0; list-style: none; display: flex; flex-wrap: wrap; gap: .3rem 1rem; margin: .5rem 0; }
li { overflow-wrap: anywhere; }
@media (max-width: 48rem) { .row .parts { display: block; } .row svg { margin-bottom: .6rem; } body { padding: .7rem; }
  .row { padding: .6rem; } th { white-space: normal; vertical-align: bottom; } th, td { padding: .25rem .3rem; } table { font-size: .8rem; } table.wrap td:last-child { white-space: normal; } }
"""

BAR_WIDTH, BAR_LINE, LABEL_LINE = 380, 30, 14


def color_of(row, name):
    return "ours" if name == row["ours"] else "base" if name == row["baseline"] else "other"


def bars(row):
    """Horizontal bars of the medians, with the range of the rounds; the label is above its bar, so that it has room."""
    most = max(entry["high"] for entry in row["series"].values()) or 1
    height = BAR_LINE * len(row["series"]) + 4
    parts = [f'<svg viewBox="0 0 {BAR_WIDTH} {height}" role="img" aria-label="{html.escape(row["title"])}, {row["unit"]}">']
    for at, (name, entry) in enumerate(row["series"].items()):
        top = at * BAR_LINE
        scale = (BAR_WIDTH - 8) / most
        middle = top + LABEL_LINE + 7
        parts.append(f'<text x="0" y="{top + 12}">{html.escape(name)} <tspan class="value">{number(entry["median"])} {row["unit"]}</tspan></text>')
        parts.append(f'<rect x="0" y="{top + LABEL_LINE + 2}" width="{max(entry["median"] * scale, 1):.1f}" height="10" rx="2" '
                     f'fill="var(--{color_of(row, name)})"/>')
        if entry["high"] > entry["low"]:
            low, high = entry["low"] * scale, entry["high"] * scale
            parts.append(f'<path d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 3}v6M{high:.1f} {middle - 3}v6" '
                         'stroke="var(--text)" fill="none"/>')
    return "".join(parts) + "</svg>"


def overview(section_rows):
    """The ratio of each row to its baseline, on a logarithmic scale: left of 1, ours needs less."""
    shown = [row for row in section_rows if row["ratio"]]
    if not shown:
        return ""
    reach = max(math.log2(2.2), *(abs(math.log2(value)) * 1.05 for row in shown for value in row["ratio"] if value > 0))
    reach = min(reach, 4)

    def position(value):
        return BAR_WIDTH / 2 + max(-1.0, min(1.0, math.log2(max(value, 1e-6)) / reach)) * (BAR_WIDTH / 2 - 10)
    height = BAR_LINE * len(shown) + 24
    parts = [f'<svg viewBox="0 0 {BAR_WIDTH} {height}" role="img" aria-label="ratios to the baselines">']
    for value in (0.25, 0.5, 1, 2, 4):
        if abs(math.log2(value)) <= reach:
            x = position(value)
            parts.append(f'<path d="M{x:.1f} 0V{height - 18}" stroke="var(--{"quiet" if value == 1 else "line"})"/>'
                         f'<text class="value" x="{x:.1f}" y="{height - 4}" text-anchor="middle">{value:g}</text>')
    for at, row in enumerate(shown):
        top = at * BAR_LINE
        middle = top + LABEL_LINE + 7
        low, high = position(row["ratio"][1]), position(row["ratio"][2])
        color = "worse" if row["ratio"][0] > 1 else "better"
        parts.append(f'<text x="0" y="{top + 12}">{html.escape(row["title"])}</text>'
                     f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="var(--{color})" stroke-width="2"/>'
                     f'<circle cx="{position(row["ratio"][0]):.1f}" cy="{middle}" r="4" fill="var(--{color})"/>')
    return "".join(parts) + "</svg>"


def series_table(row):
    keys = [key for key in EXTRAS if any(key in entry for entry in row["series"].values())]
    head = "".join(f"<th>{text}</th>" for text in
                   ["", f"median, {row['unit']}", f"{html.escape(row['ours'])} / it", "range", *(EXTRAS[key] for key in keys)])
    lines = []
    for name, entry in row["series"].items():
        color = color_of(row, name)
        mark = ' <span class="mark" title="{}">*</span>'.format(html.escape(entry["disturbed"])) if entry["disturbed"] else ""
        ratio = "" if name == row["ours"] else ratio_text(entry["ratio"])
        cells = [number(entry["median"]) + mark, ratio, f'{number(entry["low"])} to {number(entry["high"])}',
                 *(number(entry.get(key)) for key in keys)]
        lines.append(f'<tr><td class="{color}">{html.escape(name)}</td>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def row_id(row):
    return "".join(letter if letter.isalnum() else "-" for letter in row["row"])


def row_card(row):
    disturbed = f'<p class="small mark">* disturbed: {html.escape(row["disturbed"])}</p>' if row["disturbed"] else ""
    return (f'<section class="row" id="{row_id(row)}"><h3>{html.escape(row["title"])}</h3>'
            f'<p class="small">{html.escape(row["measures"])} <b>Not included:</b> {html.escape(row["excludes"])}</p>'
            f'<div class="parts">{bars(row)}<div>{series_table(row)}{disturbed}</div></div></section>')


def summary_table(rows):
    lines = []
    for row in rows:
        entry = row["series"][row["ours"]]
        better = "" if not row["ratio"] else "better" if row["ratio"][0] <= 1 else "worse"
        mark = ' <span class="mark" title="{}">*</span>'.format(html.escape(row["disturbed"])) if row["disturbed"] else ""
        lines.append(f'<tr><td><a href="#{row_id(row)}">{html.escape(row["title"])}</a></td><td>{number(entry["median"])} {row["unit"]}{mark}</td>'
                     f'<td class="{better}">{ratio_text(row["ratio"])}</td><td>{number(entry.get("calls"))}</td>'
                     f'<td>{html.escape(row["baseline"])}</td></tr>')
    return ('<div class="scroll"><table class="wrap"><thead><tr><th>row</th><th>ours</th><th>ratio</th><th>calls</th><th>baseline</th></tr></thead>'
            f'<tbody>{"".join(lines)}</tbody></table></div>')


def html_page(report, sections):
    rows = report["rows"]
    compared = [row for row in rows if row["ratio"]]
    wins = sum(row["ratio"][0] <= 1 for row in compared)
    disturbed = sum(row["disturbed"] is not None for row in rows)
    parts = ["<!doctype html><html lang=en><head><meta charset=utf-8>",
             '<meta name=viewport content="width=device-width, initial-scale=1"><title>kevring benchmarks</title>',
             f"<style>{STYLE}</style></head><body><h1>kevring benchmarks</h1>",
             f'<p class="small">Commit {html.escape(report["commit"])}, {html.escape(report["mode"])}, {html.escape(report["date"])}. '
             f'{html.escape(report["machine"]["cpu"])}, {len(report["machine"]["cpus"])} CPUs, Linux {html.escape(report["machine"]["kernel"])}, '
             f'{html.escape(report["compiler"])}.</p>',
             f"<p>Of {len(compared)} rows with a baseline, kevring needs no more than the baseline in {wins} and more in {len(compared) - wins}. "
             f"{disturbed} rows are disturbed: measure again before you quote them.</p>",
             '<p class="small">A ratio is the median of the ratios of the rounds; below 1, kevring needs less. Calls are system calls for each operation, '
             "counted in a run of their own under ptrace, which slows the server, so that batches are larger there. "
             "A star marks a series that other processes disturbed, whose rounds differ by more than 10 %, or that has fewer than 3 rounds.</p>"]
    used = [name for name in sections if any(row["section"] == name for row in rows)]
    parts.append("<nav><ul>" + "".join(f'<li><a href="#{name}">{html.escape(sections[name])}</a></li>' for name in used) + "</ul></nav>")
    for name in used:
        own = [row for row in rows if row["section"] == name]
        parts.append(f'<h2 id="{name}">{html.escape(sections[name])}</h2>')
        parts.append(f'<div class="row"><div class="parts">{overview(own)}{summary_table(own)}</div></div>')
        parts.extend(row_card(row) for row in own)
    notes = [f"{name}: {reason}" for name, reason in report["left_out"].items()]
    if notes:
        parts.append("<h2>Not measured</h2><ul>" + "".join(f"<li>{html.escape(note)}</li>" for note in notes) + "</ul>")
    return "".join(parts) + "</body></html>\n"


def markdown(report, sections):
    """Tables for docs/figures.md: one for each section, with a column for each baseline."""
    lines = [f"Commit `{report['commit']}`, `scripts/bench {report['mode']}` on {report['date']}: {report['machine']['cpu']}, "
             f"{len(report['machine']['cpus'])} CPUs, Linux {report['machine']['kernel']}, {report['compiler']}. Medians of the rounds; ratios are those of "
             "ours to the named series, below 1 ours needs less. A star marks a disturbed row."]
    for name, title in sections.items():
        own = [row for row in report["rows"] if row["section"] == name]
        if not own:
            continue
        others = list(dict.fromkeys(other for row in own for other in row["series"] if other != row["ours"]))
        has_calls = any("calls" in row["series"][row["ours"]] for row in own)
        lines += ["", f"### {title}", "", "| row | ours | " + ("calls | " if has_calls else "") + " | ".join(f"/ {other}" for other in others) + " |",
                  "|---|---|" + "---|" * (has_calls + len(others))]
        for row in own:
            ours = row["series"][row["ours"]]
            cells = [row["title"] + (" *" if row["disturbed"] else ""), f"{number(ours['median'])} {row['unit']}"]
            cells += [number(ours.get("calls"))] * has_calls
            for other in others:
                text = ratio_text(row["series"][other]["ratio"]) if other in row["series"] and other != row["ours"] else ""
                cells.append(f"**{text}**" if text and other == row["baseline"] else text)
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


BEGIN, END = "<!-- from docs/figures.json; scripts/bench --publish writes this part -->", "<!-- end of this part -->"
# Of README; a row is named by its begin. The choice is fixed, so that losses stay in.
HEADLINES = ("echo/64B/64/", "echo/16KiB/64/", "load:1KiB/", "load:64KiB/", "load-close:1KiB/", "queue/epoll_port, get_events/32", "ring/1/64",
             "timers/arm_and_disarm", "coroutines/child_task")


def headlines(report):
    """The table of README: some rows, with wins and losses."""
    machine = report["machine"]
    lines = [f"Commit `{report['commit']}`, {machine['cpu']}, {len(machine['cpus'])} CPUs, Linux {machine['kernel']}, loopback; CPU time, ratios of "
             "ours to the named one (below 1 ours needs less). A star marks a row that other processes disturbed.", "",
             "| row | ours | ratio | to |", "|---|---|---|---|"]
    for begin in HEADLINES:
        row = next((one for one in report["rows"] if one["row"].startswith(begin) and one["ratio"]), None)
        if row:
            ours = row["series"][row["ours"]]
            lines.append(f"| {row['title']}{' *' if row['disturbed'] else ''} | {number(ours['median'])} {row['unit']} | "
                         f"{ratio_text(row['ratio'])} | {row['baseline']} |")
    return "\n".join(lines) + "\n"


def replaced(document, part):
    """A document whose part between the two marks is `part`."""
    begin, end = document.index(BEGIN) + len(BEGIN), document.index(END)
    return f"{document[:begin]}\n{part}{document[end:]}"


def published(report):
    """A report for docs/figures.json: without the single rounds."""
    rows = [{**row, "series": {name: {key: value for key, value in entry.items() if key != "rounds"} for name, entry in row["series"].items()}}
            for row in report["rows"]]
    return {**report, "rows": rows}
