"""Keeps the benchmarks' figures in results.json and scaling.json, and writes them into README.md."""

import json
import platform
import sys
from pathlib import Path
from statistics import mean
from typing import Any

BENCH = Path(__file__).resolve().parent
RESULTS, SCALING, FAULTS, README, PICTURE = (
    BENCH / name for name in ("results.json", "scaling.json", "faults.json", "README.md", "scaling.png")
)
PAGE = BENCH.parent / "README.md"
STORM, STARVATION, FRONT_DOOR, SOAK = (BENCH / f"{name}.json" for name in ("storm", "starvation", "front_door", "soak"))
SIDE_BY_SIDE, FRAMEWORKS = (BENCH / f"{name}.json" for name in ("side_by_side", "frameworks"))
NEWCOMERS = BENCH / "accuracy" / "newcomers.json"
PROCESSORS = BENCH / "accuracy" / "processors.json"
MOVING = {"dlrm": "DLRM", "ncf": "NCF", "mf": "matrix factorisation"}  # what is trained step by step
LESS = ("MB", "ms")  # units of which less is better
STAGES = ("fetch", "prepare", "train", "evaluate", "export")


def conclude(path: Path, found: dict[str, Any], troubles: list[str]) -> None:
    """Keeps figures, prints them, and ends with what should not be in them where there is something."""
    save(path, found)
    print(json.dumps(found, indent=2))
    stop_on(troubles)


def memory_troubles(found: dict[str, Any], growth: float) -> list[str]:
    """What is wrong with the memory before and after, which may grow so many times."""
    before, after = found["memory_before_mb"], found["memory_after_mb"]
    return [f"memory grew from {before} to {after} MB"] if after > growth * before else []


def stop_on(troubles: list[str]) -> None:
    """Ends with exit code 1 and what was wrong, if anything was."""
    if troubles:
        sys.exit("this should not be: " + "; ".join(troubles))


def keep(group: str, results: list[dict[str, Any]]) -> None:
    """Puts the results of a group in the place of its former ones."""
    others = [result for result in _read(RESULTS) if result.get("group") != group]
    save(RESULTS, others + [{**result, "group": group, "machine": machine()} for result in results])


def keep_scaling(points: list[dict[str, Any]]) -> None:
    """The whole pipeline at each scale."""
    save(SCALING, [{**point, "machine": machine()} for point in points])


def machine() -> str:
    """The processor, in words."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor()


def write() -> None:
    """Renews the tables in README.md, between their markers, and the picture."""
    if RESULTS.is_file():
        replace(README, "results", _results_table(_read(RESULTS)))
    if SCALING.is_file():
        points = _read(SCALING)
        _draw(points)
        replace(README, "scaling", _scaling_table(points))
    served = [result for result in _read(RESULTS) if result.get("group") == "serving"]
    if served:
        replace(PAGE, "serving", _serving_table(served))
    if FAULTS.is_file():
        replace(README, "faults", _faults_table(_read(FAULTS)))
    for path, name, table in (
        (STORM, "storm", _storm_table),
        (STARVATION, "starvation", _starvation_table),
        (FRONT_DOOR, "front door", _front_door_table),
        (SOAK, "soak", _soak_table),
        (SIDE_BY_SIDE, "side by side", _side_by_side_table),
    ):
        if path.is_file():
            replace(README, name, table(_read(path)))
    if NEWCOMERS.is_file():
        replace(README, "newcomers", _newcomers_table(_read(NEWCOMERS)))
    if PROCESSORS.is_file():
        replace(README, "processors", _processors_table(_read(PROCESSORS)))
        replace(PAGE, "processors", _processors_summary(_read(PROCESSORS)))


def _results_table(results: list[dict[str, Any]]) -> str:
    lines = ["| what | scale | Marquee | peer | theirs | unit | ratio (range) |", "|---|---|---|---|---|---|---|"]
    for r in sorted(results, key=lambda r: r["what"]):
        low, high = r["ratio_range"]
        figures = f"{_number(r['ours'])} | {r['peer']} | {_number(r['theirs'])}"
        lines.append(
            f"| {r['what']} | {_scale(r['scale'])} | {figures} | {r['unit']} "
            f"| **{r['ratio']:.2f}** ({low:.2f} to {high:.2f}) |"
        )
    return "\n".join([*lines, "", f"Medians of {results[0]['runs']} alternating runs on {results[0]['machine']}."])


def _scaling_table(points: list[dict[str, Any]]) -> str:
    lines = ["| scale | ratings | " + " | ".join(STAGES) + " | all | peak memory |", "|---" * (len(STAGES) + 4) + "|"]
    for p in points:
        seconds = [p["stages"][stage]["seconds"] for stage in STAGES]
        peak = max(stage["peak_mb"] for stage in p["stages"].values()) / 1000
        cells = " | ".join(f"{s:,.0f} s" for s in seconds)
        lines.append(f"| {_scale(p['scale'])} | {p['ratings']:,} | {cells} | {sum(seconds):,.0f} s | {peak:.1f} GB |")
    lines += [
        "",
        "| scale | model | protocol | HR@10 or AUC | of the truth's | samples/s |",
        "|---|---|---|---|---|---|",
    ]
    for p in points:
        best = {m["protocol"]: m["metrics"] for m in p["models"] if m["model"] == "truth"}
        for m in p["models"]:
            metric = "hr@10" if m["protocol"] == "leave-one-out" else "auc"
            value, limit = m["metrics"][metric], best[m["protocol"]][metric]
            chance = 0.1 if metric == "hr@10" else 0.5
            speed = f"{m['samples_per_second']:,}" if m["samples_per_second"] else "-"
            lines.append(
                f"| {_scale(p['scale'])} | {m['model']} | {m['protocol']} | {value:.3f} "
                f"| {(value - chance) / (limit - chance):.0%} | {speed} |"
            )
    return "\n".join([*lines, "", f"On {points[0]['machine']}."])


def _serving_table(results: list[dict[str, Any]]) -> str:
    found = {(result["what"], result["unit"]): result for result in results}
    score, eight = "score, one pair", "score, one pair, 8 clients"
    lines = [f"| ML-25M's size, {results[0]['machine']} | Marquee | Merlin Systems |", "|---|---|---|"]
    for title, what, unit in (
        ("`score`, one pair, 1 client: requests/s", f"{score}, 1 client", "requests/s"),
        ("8 clients: requests/s", eight, "requests/s"),
        ("32 clients: requests/s", f"{score}, 32 clients", "requests/s"),
        ("8 clients: median latency", f"{eight}, p50", "ms"),
        ("8 clients: 99th percentile", f"{eight}, p99", "ms"),
        (
            "`recommend`, exact, all 62,423 movies, 1 client: median",
            "recommend, exact, all movies, 1 client, p50",
            "ms",
        ),
        ("99th percentile", "recommend, exact, all movies, 1 client, p99", "ms"),
        ("`recommend`, two-stage, 1 client: median", "recommend, two-stage, all movies, 1 client, p50", "ms"),
        ("99th percentile", "recommend, two-stage, all movies, 1 client, p99", "ms"),
    ):
        result = found[what, unit]
        theirs = "" if "two-stage" in what else _rounded(result["theirs"], unit)
        lines.append(f"| {title} | **{_rounded(result['ours'], unit)}** | {theirs} |")
    recall = next(result["ours"] for result in results if result["unit"] == "recall@10")
    lines.append(f"| two-stage: share of the exact top ten | {recall:.4f} | |")
    return "\n".join(lines)


def _rounded(value: float, unit: str) -> str:
    return f"{value:.1f} ms" if unit == "ms" else f"{value:,.0f}"


def _faults_table(found: dict[str, Any]) -> str:
    columns = {
        "fault": "{fault}",
        "what clients saw": "{seen}",
        "answered": "{right:,}",
        "failed": "{failed:,}",
        "wrong": "{wrong}",
        "slowest answer": "{slowest_seconds:.1f} s",
        "seconds to recover": "{seconds_to_recover:.1f}",
    }
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    lines += [f"| {' | '.join(columns.values())} |".format(**row) for row in found["faults"]]
    soak = found["faults"][0]
    held = f"{soak['memory_before_mb']:,} MB before the first row's minute and {soak['memory_after_mb']:,} MB after it"
    lines += [
        "",
        f"Triton, its Python processes and the front door held {held}. On {found['machine']}.",
        "",
        "What `serve` said:",
        "",
    ]
    lines += [f"- {f['fault']}: {'; '.join(f['told'])}" for f in found["faults"] if f["told"]]
    return "\n".join(lines)


def _storm_table(found: dict[str, Any]) -> str:
    """The good clients' figures, and each attack with how often it was made and what it got."""
    memory = f"{found['memory_before_mb']:,} MB before and {found['memory_after_mb']:,} MB after"
    same = "the same process at the end as at the start" if found["same_triton"] else "not the same process"
    lines = [
        f"{found['minutes']:g} minutes: good requests **{found['right']:,} right, {found['wrong']} wrong, "
        f"{found['failed']} failed**; Triton was {same}; the front door was replaced {found['renewals']} times, as it "
        f"had grown; they held {memory}. "
        f"On {found['machine']}.",
        "",
        *_latency_lines(found["latencies"]),
        "",
        "| attack | times | outcomes |",
        "|---|---|---|",
    ]
    for attack, outcomes in found["attacks"].items():
        listed = ", ".join(f"{outcome} {number:,}" for outcome, number in outcomes.items())
        lines.append(f"| {attack} | {sum(outcomes.values()):,} | {listed} |")
    return "\n".join(lines)


def _latency_lines(latencies: dict[str, dict[str, float]]) -> list[str]:
    lines = ["| good requests | median | 99th percentile | longest |", "|---|---|---|---|"]
    for what, figures in latencies.items():
        cells = " | ".join(f"{figures[name]:,.1f} ms" for name in ("p50_ms", "p99_ms", "longest_ms"))
        lines.append(f"| {what} | {cells} |")
    return lines


def _starvation_table(found: dict[str, Any]) -> str:
    lost = sum(found["large_lost"].values())
    small = {"alone": found["alone"], "beside the large ones": found["beside"]}
    return "\n".join(
        [
            *_latency_lines({f"`score` of one pair, {how}": figures for how, figures in small.items()}),
            "",
            f"In {found['large_seconds']:.0f} s {found['large_clients']} clients with 262,144 pairs a request got "
            f"{found['large_answered']:,} answers; {found['large_shed']:,} requests were shed, {lost} lost. "
            f"On {found['machine']}.",
        ]
    )


def _front_door_table(found: dict[str, Any]) -> str:
    lines = [
        "| load | direct | behind the front door | ratio (range) | median, direct | behind | added (range) |",
        "|---" * 7 + "|",
    ]
    for row in found["rows"]:
        (low, high), (least, most) = row["ratio_range"], row["added_range"]
        direct, behind = row["direct_requests_per_second"], row["behind_requests_per_second"]
        lines.append(
            f"| {row['what']} | {direct:,.0f}/s | {behind:,.0f}/s "
            f"| **{row['ratio']:.2f}** ({low:.2f} to {high:.2f}) "
            f"| {row['direct_p50_ms']:.2f} ms | {row['behind_p50_ms']:.2f} ms "
            f"| **{row['added_ms']:+.2f} ms** ({least:+.2f} to {most:+.2f}) |"
        )
    merlin = [f"{row['what']}: {row['times_merlin']:.0f} times" for row in found["rows"] if "times_merlin" in row]
    against = f" Behind the front door against Merlin Systems' runtime: {'; '.join(merlin)}." if merlin else ""
    rounds = f"Medians of {found['rounds']} rounds on {found['dataset']}, {found['machine']}."
    return "\n".join([*lines, "", rounds + against])


def _side_by_side_table(found: dict[str, Any]) -> str:
    low, high = found["ratio_range"]
    lines = ["| `train` | seconds | memory |", "|---|---|---|"]
    for title, name in (("one model after the other", "alone"), ("several models at a time", "beside")):
        lines.append(f"| {title} | {found[f'{name}_seconds']:,.0f} | {found[f'{name}_peak_mb']:,.0f} MB |")
    changes = f", with {', '.join(found['changes'])}" if found["changes"] else ""
    rounds = f"Medians of {found['rounds']} rounds on {found['dataset']}{changes}, {found['machine']}."
    return "\n".join([*lines, "", f"{rounds} **{found['ratio']:.2f}** times as fast ({low:.2f} to {high:.2f})."])


def _soak_table(found: dict[str, Any]) -> str:
    """The totals, the latencies, the reasons of failures, and each fault with what it did."""
    held = f"held {found['memory_before_mb']:,} MB at the start and {found['memory_after_mb']:,} MB at the end"
    lines = [
        f"{found['minutes']} minutes, seed {found['seed']}: {found['right']:,} right, {found['wrong']} wrong, "
        f"{found['failed']} failed. Triton, its Python processes and the front door {held}. On {found['machine']}.",
        "",
        *_latency_lines(found["latencies"]),
        "",
        "| fault | times | failed requests | wrong | longest to recover |",
        "|---|---|---|---|---|",
    ]
    for name, one in found["faults"].items():
        lines.append(f"| {name} | {one['times']} | {one['failed']} | {one['wrong']} | {one['seconds']:.1f} s |")
    if found["reasons"]:
        lines += ["", "Why requests failed:", ""]
        lines += [f"- {number} times: {reason}" for reason, number in found["reasons"].items()]
    return "\n".join(lines)


def _newcomers_table(found: list[dict[str, Any]]) -> str:
    lines = [
        "| data | people | model | HR@10, by history | by popularity | margin (95 % interval) | NDCG@10, by history "
        "| by popularity |",
        "|---" * 8 + "|",
    ]
    for result in found:
        for model, figures in result["models"].items():
            hr, ndcg = figures["hr@10"], figures["ndcg@10"]
            low, high = hr["margin_95"]
            lines.append(
                f"| {result['dataset']} | {result['people']} | {model} | {hr['history']:.3f} | {hr['popularity']:.3f} "
                f"| **{hr['margin']:+.3f}** ({low:+.3f} to {high:+.3f}) | {ndcg['history']:.3f} "
                f"| {ndcg['popularity']:.3f} |"
            )
    return "\n".join(lines)


def _processors_table(found: dict[str, Any]) -> str:
    """A row for each model and way to compute: each seed's metric, and their mean."""
    seeds = " | ".join(f"seed {seed}" for seed in found["seeds"])
    lines = [
        f"| {found['metric'].upper()} | computed with | {seeds} | mean |",
        "|---" * (len(found["seeds"]) + 3) + "|",
    ]
    settings = found["settings"]
    models = next(iter(settings.values()))["models"]
    for model in models:
        for setting in settings.values():
            values = setting["models"][model]
            cells = [f"{value:.4f}" for value in values] + [""] * (len(found["seeds"]) - len(values))
            lines.append(f"| {model} | {setting['title']} | {' | '.join(cells)} | {mean(values):.4f} |")
    return "\n".join([*lines, "", f"Leave-one-out on {found['dataset']}, {found['machine']}."])


def _processors_summary(found: dict[str, Any]) -> str:
    """A row for each model that moves: the range over seeds and settings of one run, and of the means over seeds."""
    settings = found["settings"].values()
    titles = " | ".join(setting["title"] for setting in settings)
    first = found["seeds"][0]
    lines = [
        f"| {found['metric'].upper()}, leave-one-out, {found['dataset']} | {titles} |",
        "|---" * (len(settings) + 1) + "|",
    ]
    for model, title in MOVING.items():
        values = [setting["models"][model] for setting in settings]
        one = " | ".join(f"{seeds[0]:.4f}" for seeds in values)
        means = " | ".join(f"{mean(seeds):.4f}" if len(seeds) > 1 else "" for seeds in values)
        lines += [f"| {title}, seed {first} | {one} |", f"| {title}, mean of {len(found['seeds'])} seeds | {means} |"]
    return "\n".join(lines)


def _scale(scale: float) -> str:
    return "1" if scale == 1 else f"1/{round(1 / scale)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value > 10 else f"{value:.4f}"


def _draw(points: list[dict[str, Any]]) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    ratings = [p["ratings"] / 1e6 for p in points]
    for stage in STAGES[:4]:
        axes.plot(ratings, [p["stages"][stage]["seconds"] for p in points], marker="o", label=stage)
    total = [sum(p["stages"][stage]["seconds"] for stage in STAGES) for p in points]
    axes.plot(ratings, total, marker="o", color="black", label="all")
    first = total[-1] / ratings[-1]
    axes.plot(ratings, [first * r for r in ratings], linestyle=":", color="grey", label="proportional")
    axes.set(xscale="log", yscale="log", xlabel="million ratings", ylabel="seconds", title="One epoch of everything")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    figure.savefig(PICTURE, dpi=110)
    plt.close(figure)


def replace(page: Path, name: str, text: str) -> None:
    """Puts a text in the place of what stands between the two markers of a name."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, rest = page.read_text(encoding="utf-8").split(begin)
    _, after = rest.split(end)
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def save(path: Path, value: Any) -> None:
    """Writes figures whole, in the place of the former ones."""
    whole = path.with_name(f"{path.name}.new")
    whole.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    whole.replace(path)
