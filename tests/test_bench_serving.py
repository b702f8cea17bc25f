"""The measurements of a server under attack: what they compute, hold to bounds and show."""

import importlib
import itertools
import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"
LATENCY = {"p50_ms": 1.0, "p99_ms": 20.5, "longest_ms": 1000.0}
STORM = {
    "machine": "a machine",
    "minutes": 10.0,
    "same_triton": True,
    "right": 12_345,
    "wrong": 0,
    "failed": 0,
    "reasons": {},
    "latencies": {"score, grpc": LATENCY},
    "memory_before_mb": 300,
    "memory_after_mb": 310,
    "attacks": {"gRPC: nonsense": {"INVALID_ARGUMENT": 2000, "OK": 1}},
    "renewals": 1,
    "told": ["the front door holds 50 MB more than at its start; it is started again"],
}
WITHOUT = ", without the secret"
STARVATION = {
    "machine": "a machine",
    "seconds": 60.0,
    "large_clients": 12,
    "alone": {"requests": 10, "wrong": 0, **LATENCY},
    "beside": {"requests": 10, "wrong": 0, **LATENCY},
    "large_answered": 100,
    "large_shed": 7,
    "large_lost": {},
    "large_seconds": 65.2,
    "same_processes": True,
}


@pytest.fixture(scope="module")
def bench():
    """Imports scripts of the benchmarks, which import each other as scripts do."""
    before = set(sys.modules)
    sys.path.insert(0, str(BENCH))
    yield importlib.import_module
    sys.path.remove(str(BENCH))
    for name in set(sys.modules) - before:
        if BENCH in Path(getattr(sys.modules[name], "__file__", None) or "/").parents:
            del sys.modules[name]


@pytest.fixture(scope="module")
def attacks(bench) -> ModuleType:
    return bench("attacks")


@pytest.fixture(scope="module")
def attackers(bench) -> ModuleType:
    return bench("attackers")


# -- attacks -----------------------------------------------------------------------------------------------------------


def test_overflowing_shapes_are_in_the_requests_as_they_are_sent(attacks):
    shapes = {tuple(tensor.shape) for asked in attacks.overflowing() for tensor in asked.inputs}
    assert {(2**61,), (2**62, 2), (2**32, 2**32), (0,), (2**31,), (-1,)} <= shapes
    again = type(attacks.overflowing()[0]).FromString(attacks.overflowing()[0].SerializeToString())
    assert list(again.inputs[0].shape) == [2**61]
    assert again.raw_input_contents[0] == b""


def test_a_large_batch_repeats_its_pairs_so_that_its_answer_can_be_checked(attacks):
    count = 3 * attacks.PERIOD + 17
    asked = attacks._repeating(count)
    users = np.frombuffer(asked.raw_input_contents[0], np.int64)
    assert (users[: attacks.PERIOD] == users[attacks.PERIOD : 2 * attacks.PERIOD]).all()
    scores = (users / 1000).astype(np.float32)

    def answer(values: np.ndarray):
        made = attacks.service_pb2.ModelInferResponse(raw_output_contents=[values.tobytes()])
        made.outputs.add(name="score")
        return made

    assert attacks._repeats(answer(scores), count)
    assert not attacks._repeats(answer(scores[:-1]), count)
    swapped = np.concatenate([scores[10:], scores[:10]])
    swapped[attacks.PERIOD] += 0.1
    assert not attacks._repeats(answer(swapped), count)


def test_the_bomb_is_small_and_unpacks_to_a_gigabyte(bench, monkeypatch):
    http = bench("attacks_http")
    monkeypatch.setattr(http, "BOMB_BYTES", 8 << 20)
    packed = http.bomb.__wrapped__("gzip")
    import gzip

    assert len(gzip.decompress(packed)) == 8 << 20
    assert len(packed) < 20_000


def test_frames_are_those_of_http_2(bench, attacks):
    raw = bench("attacks_raw")
    assert raw.frame(raw.PING, 0, 0, b"12345678") == b"\0\0\x08\x06\0\0\0\0\0" + b"12345678"
    target = attacks.Target("127.0.0.1:1", secret="s" * 200)
    assert b"triton-grpc-protocol-marquee-secret\x7f\x49" + b"s" * 200 in raw.header_block(target)
    whole = raw.call_frames(target, 1, b"x" * 40_000)
    sizes, place = [], 0
    while place < len(whole):
        size = int.from_bytes(whole[place : place + 3], "big")
        sizes.append((whole[place + 3], whole[place + 4], size))
        place += 9 + size
    assert place == len(whole)
    assert [size for kind, _, size in sizes if kind == raw.DATA] == [16_384, 16_384, 40_005 - 2 * 16_384]
    assert [flags for kind, flags, _ in sizes if kind == raw.DATA] == [0, 0, raw.END_STREAM]


def test_every_attack_comes_with_and_without_the_secret_before_one_comes_again(attackers):
    names = attackers.LANES[1]
    drawn = list(itertools.islice(attackers.schedule(names, True, random.Random(0)), 2 * len(names)))
    assert sorted(drawn) == sorted((name, secret) for name in names for secret in (True, False))
    without = list(itertools.islice(attackers.schedule(names, False, random.Random(0)), len(names)))
    assert sorted(without) == sorted((name, True) for name in names)


def test_the_lanes_make_every_attack_but_the_heavy_one_that_is_allowed(attackers):
    in_lanes = [name for lane in attackers.LANES for name in lane]
    assert sorted(in_lanes) == sorted(set(attackers.ATTACKS) - {attackers.LARGEST_BATCHES})


def test_an_attack_on_a_server_that_is_not_there_ends_in_time(attackers, attacks):
    target = attacks.Target("127.0.0.1:9", "127.0.0.1:9")
    for name in ("gRPC: nonsense", "HTTP: nonsense", "connections: dropped connections"):
        outcomes = attackers.ATTACKS[name](target, 0.1, 0)
        assert set(outcomes) <= {"UNAVAILABLE", "refused connection"}, name


# -- good clients ------------------------------------------------------------------------------------------------------


def test_an_answer_is_right_within_the_tolerance_only(bench):
    good = bench("good_clients")
    question = good.Question("recommend", {}, np.array([5, 7]), np.array([0.5, 0.25], np.float32))
    assert question.is_right((np.array([5, 7]), np.array([0.5, 0.250001])))
    assert not question.is_right((np.array([7, 5]), np.array([0.5, 0.25])))
    assert not question.is_right((np.array([5, 7]), np.array([0.5, 0.2501])))
    assert not question.is_right((np.array([5]), np.array([0.5])))


def test_what_clients_saw_adds_up(bench):
    good = bench("good_clients")
    seen, more = good.Seen(right=1, failures=[(1.0, "busy")]), good.Seen(right=2, wrong=1, failures=[(2.0, "busy")])
    more.seconds["score, grpc"] += [0.001, 0.003]
    seen.add(more)
    assert (seen.right, seen.wrong, seen.reasons) == (3, 1, {"busy": 2})
    assert seen.latencies() == {"score, grpc": {"p50_ms": 2.0, "p99_ms": 2.98, "longest_ms": 3.0}}


def test_a_client_that_still_waits_is_known(bench, tmp_path):
    good = bench("good_clients")
    clients = good.Clients.__new__(good.Clients)
    clients.asking_since = {}
    assert clients.longest_wait() == pytest.approx(0, abs=1)
    clients.asking_since = {0: time.monotonic(), 1: time.monotonic() - 100}
    assert clients.longest_wait() == pytest.approx(100, abs=5)


def test_lines_that_the_console_wrapped_are_put_together(bench, tmp_path):
    served = bench("served")
    running = served.Served(None, None, tmp_path / "temporary")
    running.lines = ["word " * 21 + "four", "wrapped here", "", "another line", f"{tmp_path}/run/x has changed"]
    assert running.told() == ["word " * 21 + "four wrapped here", "another line", "run/x has changed"]


# -- bounds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"same_triton": False}, "another process"),
        ({"told": [*STORM["told"], "the front door ended (exit code -11)"]}, "exit code -11"),
        ({"failed": 1, "reasons": {"late": 1}}, "late"),
        ({"wrong": 1}, "1 wrong"),
        ({"right": 0}, "0 right"),
        ({"memory_after_mb": 331}, "memory grew"),
        ({"attacks": STORM["attacks"]}, "HTTP: deep JSON"),
    ],
)
def test_a_storm_is_held_to_its_bounds(bench, changed, said):
    storm = bench("storm")
    made = {name + WITHOUT: {"done": 1} for lane in storm.LANES for name in lane}
    assert storm.troubles({**STORM, "attacks": made}) == []
    (trouble,) = storm.troubles({**STORM, "attacks": made, **changed})
    assert said in trouble


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"beside": {**STARVATION["beside"], "p99_ms": 100.1}}, "99th percentile"),
        ({"beside": {**STARVATION["beside"], "wrong": 1}}, "wrongly"),
        ({"large_lost": {"UNAVAILABLE": 1}}, "lost"),
        ({"large_answered": 0}, "0 answered"),
        ({"same_processes": False}, "started again"),
    ],
)
def test_starvation_is_held_to_its_bounds(bench, changed, said):
    starvation = bench("starvation")
    assert starvation.troubles(STARVATION) == []
    (trouble,) = starvation.troubles({**STARVATION, **changed})
    assert said in trouble


def rounds_of(*speeds: tuple[float, float, float, float]) -> list[dict]:
    """Rounds of the front door's cost: direct and behind, requests per second and median latency each."""
    return [
        {
            "direct": {"requests_per_second": direct, "p50_ms": fast, "p99_ms": 2.0},
            "behind": {"requests_per_second": behind, "p50_ms": slow, "p99_ms": 3.0},
        }
        for direct, behind, fast, slow in speeds
    ]


def test_the_cost_of_the_front_door_is_the_median_of_the_rounds_ratios(bench):
    front_door = bench("front_door")
    rounds = rounds_of((1000, 700, 1.0, 1.4), (500, 400, 2.0, 2.5), (1000, 600, 1.0, 1.6))
    row = front_door.compared("score, 1 client", rounds)
    assert (row["ratio"], row["ratio_range"]) == (0.7, [0.6, 0.8])
    assert (row["added_ms"], row["added_range"]) == (0.5, [0.4, 0.6])
    assert front_door.troubles({"rows": [row]}) == []
    slow = front_door.compared("score, 1 client", rounds_of((1000, 200, 1.0, 5.0)))
    assert len(front_door.troubles({"rows": [slow]})) == 2
    assert front_door.troubles({"rows": [{**slow, "what": "recommend, exact, 1 client"}]}) == []


def test_training_side_by_side_is_compared_by_the_median_of_the_rounds_ratios(bench):
    side_by_side, records = bench("side_by_side"), bench("records")
    alone, beside = (
        [{"seconds": s, "peak_mb": mb} for s, mb in rows]
        for rows in (
            ((100, 900), (120, 950), (90, 920)),
            ((50, 2000), (80, 2100), (60, 1900)),
        )
    )
    found = side_by_side.compared({side_by_side.ALONE: alone, side_by_side.BESIDE: beside})
    assert found == {
        "rounds": 3,
        "alone_seconds": 100,
        "alone_peak_mb": 920,
        "beside_seconds": 60,
        "beside_peak_mb": 2000,
        "ratio": 1.5,
        "ratio_range": [1.5, 2.0],
    }
    text = records._side_by_side_table({**found, "changes": [], "dataset": "ml-100k", "machine": "a machine, 2 cores"})
    assert "| several models at a time | 60 | 2,000 MB |" in text
    assert text.endswith("3 rounds on ml-100k, a machine, 2 cores. **1.50** times as fast (1.50 to 2.00).")


def test_faults_are_held_to_their_bounds(bench):
    faults = bench("faults")
    row = {"fault": "nothing, for a minute", "failed": 0, "wrong": 0, "seconds_to_recover": 0.0, "told": []}
    held = {"memory_before_mb": 100, "memory_after_mb": 120}
    assert faults.troubles([{**row, **held}]) == []
    assert len(faults.troubles([{**row, **held, "failed": 1}])) == 1
    assert len(faults.troubles([{**row, **held, "memory_after_mb": 121}])) == 1
    told = ["the front door was started again in 1.0 s"]
    killed = {**row, "fault": "the front door killed (SIGKILL)", "failed": 9, "told": told}
    assert faults.troubles([{**row, **held}, killed]) == []
    assert len(faults.troubles([{**row, **held}, {**killed, "told": ["it is started again"]}])) == 1
    assert len(faults.troubles([{**row, **held}, {**killed, "seconds_to_recover": 31.0}, {**killed, "wrong": 1}])) == 2
    assert len({fault.name for fault in faults.FAULTS}) == len(faults.FAULTS) >= 23


def test_a_soak_draws_the_same_faults_with_the_same_seed_and_rolls_back_only_a_new_version(bench):
    soak, faults = bench("soak"), bench("faults")
    first, again = ([fault.name for fault in itertools.islice(soak.drawn(3), 60)] for _ in range(2))
    assert first == again
    assert first != [fault.name for fault in itertools.islice(soak.drawn(4), 60)]
    assert set(first) == {fault.name for fault in faults.FAULTS}
    assert all(first[place - 1] == soak.AFTER for place, name in enumerate(first) if name == soak.UNDO)


def soak_figures(soak: ModuleType, good: ModuleType) -> dict:
    seen = good.Seen(right=10, failures=[(1.0, "late")])
    seen.seconds["score, grpc"] += [0.001]
    row = {"failed": 1, "wrong": 0, "failed_later": 0, "wrong_later": 0, "seconds_to_recover": 2.0}
    told = {
        "the front door hangs (SIGSTOP)": "the front door was started again",
        "rollback": "it is served, after a rehearsal",
    }
    rows = [{"fault": fault, **row, "told": [words]} for fault, words in told.items()]
    rows[1]["failed"] = 0
    return soak.summary(rows, seen, 0, 100.0, 119.9)


def test_a_soak_is_held_to_its_bounds(bench):
    soak = bench("soak")
    figures = soak_figures(soak, bench("good_clients"))
    assert figures["faults"]["the front door hangs (SIGSTOP)"] == {"times": 1, "failed": 1, "wrong": 0, "seconds": 2.0}
    assert soak.troubles(figures) == []
    assert len(soak.troubles({**figures, "wrong": 1, "memory_after_mb": 121})) == 2
    assert "rollback" in soak.troubles({**figures, "rows": [{**figures["rows"][1], "told": []}]})[0]
    figures["faults"]["rollback"]["failed"] = 1
    assert len(soak.troubles(figures)) == 1


# -- tables ------------------------------------------------------------------------------------------------------------


def test_the_tables_say_what_the_figures_do(bench):
    records, front_door = bench("records"), bench("front_door")
    storm = records._storm_table(STORM)
    assert "**12,345 right, 0 wrong, 0 failed**" in storm
    assert "| gRPC: nonsense | 2,001 | INVALID_ARGUMENT 2,000, OK 1 |" in storm
    assert "| score, grpc | 1.0 ms | 20.5 ms | 1,000.0 ms |" in storm
    assert "not the same" in records._storm_table({**STORM, "same_triton": False})
    assert "replaced 1 times" in storm
    starved = records._starvation_table({**STARVATION, "large_lost": {"UNAVAILABLE": 2, "INTERNAL": 1}})
    assert "100 answers; 7 requests were shed, 3 lost" in starved
    row = front_door.compared("score, 8 clients", rounds_of((3000, 2100, 1.0, 1.25)))
    cost = {"rows": [{**row, "times_merlin": 40.0}], "rounds": 1, "dataset": "ml-100k", "machine": "a machine"}
    text = records._front_door_table(cost)
    assert "| 3,000/s | 2,100/s | **0.70** (0.70 to 0.70) | 1.00 ms | 1.25 ms | **+0.25 ms**" in text
    assert "score, 8 clients: 40 times" in text
    text = records._soak_table(soak_figures(bench("soak"), bench("good_clients")))
    assert "2 minutes, seed 0: 10 right, 0 wrong, 1 failed" in text
    assert "| the front door hangs (SIGSTOP) | 1 | 1 | 0 | 2.0 s |" in text
    assert "- 1 times: late" in text


def test_outcomes_are_listed_the_most_frequent_first(attackers):
    found = attackers.table({"b": Counter(x=1, y=2), "a": Counter(z=1)})
    assert json.dumps(found) == '{"a": {"z": 1}, "b": {"y": 2, "x": 1}}'


def test_figures_replace_the_former_ones_whole(bench, tmp_path):
    records = bench("records")
    records.save(tmp_path / "figures.json", {"a": 1})
    records.save(tmp_path / "figures.json", {"a": 2})
    assert json.loads((tmp_path / "figures.json").read_text()) == {"a": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]


# -- what is published -------------------------------------------------------------------------------------------------

PUBLISHED = [
    name for name in ("faults", "storm", "starvation", "front_door", "soak") if (BENCH / f"{name}.json").is_file()
]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_figures_are_within_their_bounds(bench, name):
    found = json.loads((BENCH / f"{name}.json").read_text())
    assert bench(name).troubles(found["faults"] if name == "faults" else found) == []


def test_score_is_at_least_25_times_as_fast_as_merlin_systems_runtime():
    results = json.loads((BENCH / "results.json").read_text())
    ratios = [one["ratio"] for one in results if one["what"].startswith("score, one pair") and "Merlin" in one["peer"]]
    assert len(ratios) == 9
    assert min(ratios) >= 25


# -- the real thing ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_short_storm_leaves_the_server_and_its_good_clients_as_they_were(exported, tmp_path):
    """Every attack for some seconds: no crash, no failed or wrong answer, no lost memory."""
    out = tmp_path / "storm.json"
    command = [sys.executable, BENCH / "storm.py", "--run", exported.root, "--out", out]
    short = ["--minutes", "0.3", "--warm-up", "1", "--turn", "0.3"]
    done = subprocess.run([*command, *short], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    found = json.loads(out.read_text())
    assert found["right"] > 100
    assert found["attacks"]["HTTP: deep JSON"].keys() == {"400"}
