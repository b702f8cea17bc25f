"""Random small datasets and random command lines, from a seed; and a process that runs a command line in a fork of one
that has imported everything, as importing Merlin takes many times as long as most of these commands."""

import os
import shutil
import signal
import sys
import zipfile
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
IMPORTED = (
    *("marquee.app", "workflows.features.prepare", "workflows.sources.fetch", "workflows.cluster"),
    *("workflows.synthetic.synthesise", "models.registry", "models.training.train", "models.evaluation.evaluate"),
    *("models.evaluation.compare_seeds", "models.evaluation.ncf_paper", "models.tuning", "ensemble.client"),
    *("ensemble.export.export", "ensemble.repository.versions", "tests.storm"),
)
# What a command line may look like a name, a number or a path, and is not what is asked for.
ODD_TEXT = ("", "nan", "-1", "0", "1.5", "[/b]", "é", "\x1b[31m", "::", "a" * 300, "../..", "1e400", "9" * 30, "None")


# -- data --------------------------------------------------------------------------------------------------------------


@dataclass
class World:
    """Some data, the folders that commands write to, and the random generator that everything is drawn from."""

    folder: Path
    rng: np.random.Generator
    dataset: str = "ml-latest-small"
    data: Path = Path()
    movie: int = 1
    user: int = 1

    @property
    def runs(self) -> Path:
        """Where the run folders are."""
        return self.folder / "runs [old] é"

    def one_of(self, *choices):
        """One of the choices."""
        return choices[int(self.rng.integers(len(choices)))]

    def chance(self, share: float) -> bool:
        """True so often."""
        return bool(self.rng.random() < share)


def make_world(folder: Path, seed: int) -> World:
    """A random small dataset in a random layout."""
    rng = np.random.default_rng(seed)
    world = World(folder, rng)
    folder.mkdir(parents=True)
    (folder / "temporary").mkdir()
    (folder / "home").mkdir()
    smallest = (1, 2) if world.chance(0.25) else (8, 20)
    users, movies = int(rng.integers(smallest[0], 25)), int(rng.integers(smallest[1], 40))
    kind = world.one_of("csv", "csv", "dat", "zip", "gaps")
    world.dataset = "ml-1m" if kind == "dat" else "ml-latest-small"
    world.data = folder / world.one_of("data", "data [old]", "file:x", "[b]data*", "données ?", "100%")
    user_ids = np.sort(rng.choice(10**6 if kind == "gaps" else users, users, replace=False)) + 1
    movie_ids = np.sort(rng.choice(10**6 if kind == "gaps" else movies, movies, replace=False)) + 1
    world.user, world.movie = int(rng.choice(user_ids)), int(rng.choice(movie_ids))
    _write(world, kind, _ratings(world, user_ids, movie_ids), _movies(world, movie_ids))
    return world


def _ratings(world: World, users: np.ndarray, movies: np.ndarray) -> list[tuple]:
    rng = world.rng
    equal, same_time = world.chance(0.2), world.chance(0.2)
    most = min(world.one_of(1, 3, *[len(movies)] * 6), len(movies))
    rows = []
    for user in users.tolist():
        for movie in rng.choice(movies, int(rng.integers(1, most + 1)), replace=False).tolist():
            time = 10**9 if same_time else int(rng.integers(8 * 10**8, 16 * 10**8))
            rows.append((user, movie, 4 if equal else int(rng.integers(1, 6)), time))
    return [rows[place] for place in rng.permutation(len(rows))] if world.chance(0.3) else rows


def _movies(world: World, movies: np.ndarray) -> list[tuple]:
    titles = (
        "Plain",
        "Amélie",
        "七人の侍",
        "[REC] :x:",
        "[/b]",
        "A, The",
        'The "Quoted"',
        "x\x1b[31m",
        "%s {}",
        "a" * 200,
    )
    genres = ("Drama", "Comedy|Drama", "(no genres listed)", "Film-Noir", "[bold]")
    known = movies if world.chance(0.7) else movies[::2]
    return [
        (movie, world.one_of(*titles) + world.one_of("", " (1999)", f" {movie} (2001)"), world.one_of(*genres))
        for movie in known.tolist()
    ]


def _write(world: World, kind: str, ratings: list[tuple], movies: list[tuple]) -> None:
    folder = world.data
    folder.mkdir()
    if kind == "dat":
        _lines(folder / "ratings.dat", ("::".join(map(str, row)) for row in ratings))
        _lines(folder / "movies.dat", ("::".join(map(str, row)) for row in movies))
        return
    _lines(folder / "ratings.csv", ["userId,movieId,rating,timestamp", *(",".join(map(str, row)) for row in ratings)])
    quoted = ('{},"{}",{}'.format(movie, title.replace('"', '""'), genres) for movie, title, genres in movies)
    _lines(folder / "movies.csv", ["movieId,title,genres", *quoted])
    if kind == "zip":
        with zipfile.ZipFile(f"{folder}.zip", "w") as zipped:
            for path in sorted(folder.iterdir()):
                zipped.write(path, f"release/{path.name}")
        shutil.rmtree(folder)
        world.data = Path(f"{folder}.zip")


def _lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_paper_files(folder: Path, seed: int) -> Path:
    """The NCF authors' three files, of a random small benchmark."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    users, movies = int(rng.integers(1, 6)), int(rng.integers(8, 30))
    train, test, negatives = [], [], []
    for user in range(users):
        own = rng.permutation(movies)
        test.append(f"{user}\t{own[0]}\t4\t{10**9 + user}")
        negatives.append(f"({user},{own[0]})" + "".join(f"\t{movie}" for movie in own[1:4]))
        train += [f"{user}\t{movie}\t3\t{10**8 + place}" for place, movie in enumerate(own[4:8])]
    for name, lines in (("train.rating", train), ("test.rating", test), ("test.negative", negatives)):
        _lines(folder / f"tiny.{name}", lines)
    return folder


# -- command lines -----------------------------------------------------------------------------------------------------

STAGES = ("fetch", "prepare", "train", "evaluate", "export")  # in the order in which they have something to do


def command_lines(world: World, port: int) -> Generator[list[str], int, None]:
    """Command lines without end: the next stage as a rule, and any command else; some with something odd in them.

    It is sent the exit code of each: a stage that did not succeed is the next one still.
    """
    stage = 0
    while True:
        name = STAGES[stage % len(STAGES)] if world.chance(0.6) else world.one_of(*COMMANDS)
        line = [name, *COMMANDS[name](world, port)]
        code = yield _odd(world, line) if world.chance(0.15) else line
        if code == 0 and name == STAGES[stage % len(STAGES)]:
            stage += 1


def whole_pipeline(world: World) -> list[list[str]]:
    """All stages in order, with nothing odd."""
    options = {"fetch": ["--data", str(world.data)], "train": ["--epochs", "1"]}
    return [[name, *_where(world), *options.get(name, [])] for name in STAGES]


def _where(world: World) -> list[str]:
    return ["--dataset", world.dataset, "--runs", str(world.runs)]


def _odd(world: World, line: list[str]) -> list[str]:
    """A command line with something in it changed, left out, or given twice."""
    line = list(line)
    place = int(world.rng.integers(1, len(line))) if len(line) > 1 else 0
    change = world.one_of("replace", "remove", "twice", "add", "swap")
    if change == "replace":
        line[place] = world.one_of(*ODD_TEXT)
    elif change == "remove":
        del line[place]
    elif change == "twice":
        line += line[1:3]
    elif change == "add":
        line.insert(place, world.one_of("--help", "--nonsense", "-d", "--seed", "--epochs", *ODD_TEXT))
    else:
        other = int(world.rng.integers(len(line)))
        line[place], line[other] = line[other], line[place]
    return line


def _fetch(world: World, _: int) -> list[str]:
    wrong = (world.folder / "none", world.folder, world.folder / "home")
    data = world.one_of(*wrong) if world.chance(0.15) else world.data
    return [*_where(world), "--data", str(data)]


def _prepare(world: World, _: int) -> list[str]:
    return [
        *_where(world),
        "--freq-threshold",
        str(world.one_of(*[1] * 8, 2, 50)),
        "--seed",
        str(world.one_of(42, 42, 7)),
    ]


def _train(world: World, _: int) -> list[str]:
    protocol = world.one_of("both", "both", "all", "rating", "leave-one-out")
    line = [*_where(world), "--epochs", "1", "--protocol", protocol]
    if world.chance(0.4):
        line += ["--model", world.one_of("dlrm", "ncf", "mf", "all", "ease")]
    if world.chance(0.3):
        line += ["--batch-size", str(world.one_of(1, 7, 10**12))]
    if world.chance(0.3):
        line += [
            "--set",
            world.one_of("network.dim=3", "network.dim=0", "network.dim=true", "l2=nan", "x=1", "epochs=2"),
        ]
    return line


def _tune(world: World, _: int) -> list[str]:
    line = [*_where(world), "--trials", str(world.one_of(1, 2)), "--epochs", "1"]
    line += ["--protocol", world.one_of("leave-one-out", "random-split", "rating")]
    return [*line, "--model", world.one_of("ncf", "mf", "knn", "svd", "ease", "biases", "itemknn")]


def _compare(world: World, _: int) -> list[str]:
    line = [*_where(world), "--seeds", str(world.one_of(1, 2)), "--protocol", world.one_of("leave-one-out", "rating")]
    return [*line, "--out", str(world.folder / world.one_of("out.json", "none/out.json", "data"))]


def _export(world: World, _: int) -> list[str]:
    line = [*_where(world), "--protocol", world.one_of(*["leave-one-out"] * 6, "random-split", "rating")]
    return [*line, *(["--default-model", world.one_of("dlrm", "ncf", "mf")] if world.chance(0.3) else [])]


def _asked(world: World, port: int) -> list[str]:
    return [
        *_where(world),
        "--url",
        world.one_of(f"127.0.0.1:{port}", f"127.0.0.1:{port}", "nonsense", "[::1]:1", "é:1"),
    ]


def _recommend(world: World, port: int) -> list[str]:
    who = world.one_of(["--user", str(world.user)], ["--history", str(world.movie)], [], ["--user", "-1"])
    return [*_asked(world, port), *who, "--k", str(world.one_of(1, 10, 1000, 0))]


def _similar(world: World, port: int) -> list[str]:
    return [*_asked(world, port), "--movie", world.one_of(str(world.movie), "-1", "1.5", str(2**63))]


def _score(world: World, port: int) -> list[str]:
    return [
        *_asked(world, port),
        "--user",
        str(world.user),
        "--movie",
        str(world.movie),
        "--movie",
        world.one_of("1", "x"),
    ]


def _synth(world: World, _: int) -> list[str]:
    scale = world.one_of("0.001", "0.01", "0", "nan", "inf", "1e-9")
    out = world.one_of("synth", "synth", "data", "temporary/deep/synth")
    return [
        "--like",
        world.one_of("ml-latest-small", "ml-latest-small", "ml-1m"),
        "--scale",
        scale,
        "--out",
        str(world.folder / out),
    ]


def _paper(world: World, _: int) -> list[str]:
    folder = world.folder / "paper"
    if not folder.exists():
        write_paper_files(folder, int(world.rng.integers(2**31)))
    line = ["--data", str(world.one_of(folder, folder, world.data)), "--epochs", "1", "--seeds", "1"]
    line += ["--model", world.one_of("ncf", "mf", "popularity", "ease", "nothing")]
    return [*line, *(["--out", str(world.folder / "paper.json")] if world.chance(0.5) else [])]


def _run(world: World, _: int) -> list[str]:
    user = ["--user", str(world.user)] if world.chance(0.5) else []
    return [*_where(world), "--data", str(world.data), "--epochs", "1", *user]


COMMANDS = {
    "fetch": _fetch,
    "prepare": _prepare,
    "train": _train,
    "evaluate": lambda world, _: _where(world),
    "tune": _tune,
    "compare": _compare,
    "export": _export,
    "rollback": lambda world, _: _where(world),
    "recommend": _recommend,
    "similar": _similar,
    "score": _score,
    "synth": _synth,
    "paper": _paper,
    "run": _run,
}


# -- a process of its own for each -------------------------------------------------------------------------------------


def run_command(
    line: list[str], folder: Path, variables: dict[str, str], output: Path, errors: Path, ready: Event
) -> None:
    """The body of a process, forked from one that has imported everything: a command line as a terminal gives it.

    Signals can come from when `ready` is set.
    """
    os.setsid()
    for number, path in ((1, output), (2, errors)):
        handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(handle, number)
        os.close(handle)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    for name in [name for name in os.environ if name.startswith("MARQUEE_")]:
        del os.environ[name]
    os.environ.update(variables)
    import tempfile

    tempfile.tempdir = None  # it was asked for before the variables were there
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from marquee.app import main

    code = 1
    try:
        ready.set()
        main(line)
    except SystemExit as left:
        code = int(left.code or 0)
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
