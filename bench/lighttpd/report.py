"""Medians, ratios, targets, and the plot."""
import shutil
import statistics
import subprocess

import measure
from measure import say

# Bounds of the server's CPU time for each request, in ratio to the others, if servers and load run on
# separate CPUs.
CPU_TARGETS = {
    "load:1KiB": {"nginx": 0.45, "lighttpd": 0.57, "liburing": 1.08},
    "load:4KiB": {"nginx": 0.45, "lighttpd": 0.57},
    "load:16KiB": {"nginx": 0.50, "lighttpd": 0.52},
    "load:64KiB": {"nginx": 0.65, "lighttpd": 0.68},
    "load:256KiB": {"nginx": 0.47, "lighttpd": 0.75},
    "load:1MiB": {"nginx": 0.45, "lighttpd": 0.80},
    "load:16MiB": {"nginx": 0.50, "lighttpd": 0.95},
    "load:tree": {"nginx": 0.50, "lighttpd": 0.60},
    "load-close:100B": {"nginx": 0.95, "lighttpd": 0.72},
    "load-close:1KiB": {"nginx": 0.95, "lighttpd": 0.72},
    "load-close:2.7KB": {"nginx": 0.95, "lighttpd": 0.72},
    "load-10:1KiB": {"nginx": 0.70},
    "load-20:site": {"nginx": 0.60},
    "wrk:1KiB": {"nginx": 0.60, "lighttpd": 0.75},
    "wrk:4KiB": {"nginx": 0.65, "lighttpd": 0.75},
    "wrk:16KiB": {"nginx": 0.65, "lighttpd": 0.75},
}
OURS = "httpd"


def summarize(runs):
    """Medians of one server in one row, or None when it could not be measured."""
    good = [run for run in runs if "failed" not in run]
    if not good:
        return None
    made = {}
    for key in ("requests_per_second", "cpu_us", "busy", "p50_us", "p99_us", "memory_kib"):
        values = [run[key] for run in good if run.get(key) is not None]
        made[key] = statistics.median(values) if values else None
    made["cpu_us_best"] = min(run["cpu_us"] for run in good)
    made["spread"] = measure.spread([run["cpu_us"] for run in good])
    made["rounds"] = len(good)
    made["errors"] = sum(run["errors"] for run in good)
    reasons = {run["disturbed"] for run in good if run["disturbed"]}
    if made["spread"] > measure.SPREAD_MAX:
        reasons.add(f"rounds differ by {made['spread']:.0%}")
    made["disturbed"] = "; ".join(sorted(reasons)) or None
    return made


def number(value, form):
    return "-" if value is None else format(value, form)


def print_measures(results):
    say(f"{'row':18} {'control':7} {'w':>1} {'server':9} {'req/s':>9} {'CPU us/req':>10} {'best':>8} "
        f"{'spread':>6} "
        f"{'busy':>5} {'p50 us':>8} {'p99 us':>8} {'MiB':>6}  remarks")
    for result in results:
        for name, of in result["servers"].items():
            start = (f"{result['row']:18} {result['congestion_control']:7} {result['workers']:>1} "
                     f"{name:9} ")
            if of["median"] is None:
                reason = of["runs"][-1]["failed"] if of["runs"] else "not measured"
                say(start + "failed: " + reason.replace("\n", " ")[:90])
                continue
            m = of["median"]
            remarks = [of["choice"]] if of["choice"] else []
            if m["errors"]:
                remarks.append(f"{m['errors']} errors")
            if m["disturbed"]:
                remarks.append("disturbed")
            say(start + f"{m['requests_per_second']:9.0f} {m['cpu_us']:10.2f} "
                f"{m['cpu_us_best']:8.2f} {m['spread']:6.0%} "
                f"{m['busy']:5.2f} {number(m['p50_us'], '8.0f'):>8} "
                f"{number(m['p99_us'], '8.0f'):>8} {m['memory_kib'] / 1024:6.1f}  "
                + ", ".join(remarks))


def ratio(ours, theirs, key):
    if ours is None or theirs is None or not ours.get(key) or not theirs.get(key):
        return None
    return ours[key] / theirs[key]


def add_ratios(results):
    """Adds to each row our figures in ratio to each of the others, and what was wanted."""
    for result in results:
        ours = result["servers"].get(OURS, {}).get("median")
        result["ratios"] = {}
        for name, of in result["servers"].items():
            if name == OURS:
                continue
            made = {key: ratio(ours, of["median"], key) for key in
                    ("cpu_us", "cpu_us_best", "requests_per_second", "p50_us", "p99_us", "memory_kib")}
            made["cpu_target"] = (CPU_TARGETS.get(result["row"], {}).get(name)
                                  if result["own_cpus"] else None)
            made["met"] = (None if made["cpu_us"] is None or made["cpu_target"] is None
                           else made["cpu_us"] <= made["cpu_target"])
            result["ratios"][name] = made


def print_ratios(results):
    say(f"{'ours / theirs':18} {'control':7} {'w':>1} {'server':9} {'CPU/req':>8} {'target':>7} {'':6} "
        f"{'best':>6} {'req/s':>6} {'p50':>6} {'p99':>6} {'memory':>7}")
    for result in results:
        for name, of in result["ratios"].items():
            if of["cpu_us"] is None:
                continue
            verdict = {None: "", True: "met", False: "missed"}[of["met"]]
            say(f"{result['row']:18} {result['congestion_control']:7} {result['workers']:>1} "
                f"{name:9} {of['cpu_us']:8.2f} "
                f"{number(of['cpu_target'], '7.2f'):>7} {verdict:6} "
                f"{number(of['cpu_us_best'], '6.2f'):>6} "
                f"{number(of['requests_per_second'], '6.2f'):>6} {number(of['p50_us'], '6.2f'):>6} "
                f"{number(of['p99_us'], '6.2f'):>6} {number(of['memory_kib'], '7.2f'):>7}")


def plot(results, path, title):
    """Two panels of bars, each server in ratio to the best of the others in that row."""
    program = shutil.which("gnuplot")
    if program is None:
        say("gnuplot is not installed: no plot")
        return False
    names = []
    for result in results:
        names += [name for name in result["servers"] if name not in names]

    def table(key):
        lines = []
        for result in results:
            values = {name: of["median"][key] for name, of in result["servers"].items()
                      if of["median"] and of["median"].get(key)}
            others = [value for name, value in values.items() if name in ("nginx", "lighttpd")]
            if not others:
                continue
            base = max(others) if key == "requests_per_second" else min(others)
            lines.append(f'"{result["row"]}, {result["congestion_control"]}, '
                         f'{result["workers"]}w" ' + " ".join(
                f"{values[name] / base:.4f}" if name in values else "NaN" for name in names))
        return lines or None

    panels = [("Server CPU for each request, best of nginx and lighttpd = 1; lower is better",
               table("cpu_us")),
              ("Requests a second, best of nginx and lighttpd = 1; higher is better",
               table("requests_per_second"))]
    panels = [(label, rows) for label, rows in panels if rows]
    if not panels:
        say("nothing to compare with: no plot")
        return False
    width = max(900, 160 + 60 * max(len(rows) for _, rows in panels))
    colors = {"httpd": "#1b6ca8", "nginx": "#6aa84f", "lighttpd": "#e69138", "liburing": "#999999"}
    script = [f'set terminal svg size {width},{110 + 400 * len(panels)} dynamic '
              'font "sans-serif,12" background "#ffffff"',
              f'set output "{path}"', "set style data histogram", "set datafile missing 'NaN'",
              "set style histogram clustered gap 1", "set style fill solid 0.9 noborder",
              "set boxwidth 0.95", "set xtics rotate by -40 nomirror scale 0",
              "set ytics nomirror", "set border 3", "set grid ytics lc rgb '#dddddd'",
              "set yrange [0:*]", "set key outside top right horizontal",
              f'set multiplot layout {len(panels)},1 title "{title}"']
    for at, (label, rows) in enumerate(panels):
        script += [f"$data{at} << EOD", *rows, "EOD", f'set title "{label}"']
        script.append("plot " + ", ".join(
            f"$data{at} using {column + 2}:xtic(1) title '{name}' lc rgb "
            f"'{colors.get(name, '#555555')}'" for column, name in enumerate(names))
            + ", 1 notitle lc rgb '#333333' dt 2")
    script.append("unset multiplot")
    done = subprocess.run([program], input="\n".join(script) + "\n", text=True,
                          capture_output=True, check=False, timeout=60)
    if done.returncode != 0:
        say("gnuplot: " + done.stderr.strip()[:500])
    return done.returncode == 0
