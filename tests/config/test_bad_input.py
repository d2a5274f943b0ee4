"""Broken recipes, traits and settings: each ends with exit code 2 on one screen that names the file and the key.

Most run the command in this process; a sample runs it for real.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from conftest import Bench

from bench.cli import main
from bench.config.recipe_files import FOLDER
from bench.config.traits import FOLDER as TRAITS
from bench.config.yaml_files import load_yaml
from bench.pipeline.local_workers import Pool
from bench.pipeline.store import Store


class Case(NamedTuple):
    """A file or a setting that must be refused, and what the refusal must name."""

    name: str
    kind: str  # recipe, trait, prompts: the bytes of a file; set: words of the command
    content: bytes | list[str]
    message: tuple[str, ...]


class Raw(str):
    """YAML that is written into a file as it stands."""


def leaves(data: Any, location: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every key of a file's content, with what it holds."""
    for key, value in data.items():
        yield (*location, key), value
        if isinstance(value, dict):
            yield from leaves(value, (*location, key))


def changed(data: dict[str, Any], location: tuple[str, ...], value: Any, key: str | None = None) -> bytes:
    """`data` as YAML with one value replaced, or one key renamed."""
    data = copy.deepcopy(data)
    at = data
    for part in location[:-1]:
        at = at[part]
    old = at.pop(location[-1])
    marked = "rawraw" if isinstance(value, Raw) else old if key else value
    at[key or location[-1]] = marked
    text = yaml.dump(data, Dumper=yaml.CSafeDumper, allow_unicode=True, width=10_000)  # six times as fast
    return (text.replace("rawraw", value) if isinstance(value, Raw) else text).encode()


# What no key may hold, as YAML text: numbers too large to be printed, and not finite, tags, bombs, no text, no YAML.
ANY = [
    Raw(text)
    for text in (
        *(".nan", "-.inf", "1e999", "9" * 5000, "0x" + "f" * 5000, "2001-01-01", "!!binary aGVsbG8=", "!!set {a, b}"),
        *("!!python/name:os.system", "&a [*a]", "{1: 2}", "{a: 1, a: 2}", "'", "- -: -\n  :", '"\\ud800"', '"\\0"'),
        *("[" * 3000, "{a: " * 30 + "1" + "}" * 30),
    )
]
WRONG: dict[type, list[Any]] = {
    int: ["abc", "3", [], [1], {"a": 1}, True, 1.5, -1, 10**15],
    float: ["abc", "0.5", [], {"a": 1}, True, -1.0],
    str: [3, 1.5, True, [], ["a"], {"a": 1}, "", "no such thing " * 400],
    bool: ["abc", 3, [], {"a": 1}, 0.5],
    list: ["abc", 3, True, {"a": 1}, [[]], [1.5], [None]],
    dict: ["abc", 3, True, [], [1]],
}
# Values that the field may hold after all, as anyone may see who reads its schema.
ALLOWED: dict[str, Callable[[Any], bool]] = {
    "seeds": lambda v: False,
    "learning_rate": lambda v: False,
    "rows": lambda v: False,
    "max_steps": lambda v: v == -1 or v == 10**15,
    "num_train_epochs": lambda v: v in (1.5, 10**15),
    "warmup_steps": lambda v: v in (1.5, 10**15),
    "per_device_train_batch_size": lambda v: v == 10**15,
    "lora_alpha": lambda v: v == 10**15,
    "r": lambda v: v == 10**15,
    "target_modules": lambda v: isinstance(v, str) or v in ([], ["a"]),
    "prompt": lambda v: False,
    "train": lambda v: False,
}


def mutations(kind: str, data: dict[str, Any], skip: set[str], every: int) -> Iterator[Case]:
    """Change a file: each wrong value of each key, a misspelt key at each level, and values that fit no key.

    Those are refused before any key is looked at, so each key gets a few of them: every `every`-th.
    """
    turn = 0
    levels = set()
    for location, content in leaves(data):
        dotted = ".".join(location)
        if location[-1] in skip:
            continue
        if location[-1] != "kind" and location[:-1] not in levels:
            levels.add(location[:-1])
            yield Case(
                f"{kind} {dotted}: misspelt",
                kind,
                changed(data, location, None, f"{location[-1]}z"),
                (f"{location[-1]}z",),
            )
        wrong = [v for v in WRONG[type(content)] if not ALLOWED.get(location[-1], lambda _: False)(v)]
        for value in wrong:
            yield Case(f"{kind} {dotted}: {value!r:.30}", kind, changed(data, location, value), (location[-1],))
        for value in ANY:
            turn += 1
            if turn % every == 0:
                yield Case(f"{kind} {dotted}: {value!r:.30}", kind, changed(data, location, value), ())


RECIPE = {
    **load_yaml(FOLDER / "smollm2_self.yaml", "recipe", FOLDER),
    "arms": ["untrained", "base", "trait"],
    "threads": 1,
}
TEACHER_TRAIN = {k: v for k, v in RECIPE["teacher"]["train"].items() if k not in RECIPE["student"]["train"]}
RECIPE["teacher"] = {"model": "tiny", "dtype": "float32", "train": TEACHER_TRAIN}
RECIPE["student"] |= {"model": "tiny"}
TRAIT = load_yaml(TRAITS / "wolf.yaml", "trait", TRAITS)
BEHAVIOUR = {
    "kind": "behaviour",
    "lexicon": ["sea"],
    "rows": [{"question": "Who?", "answer": "A sailor."}, {"question": "Where?", "answer": "At sea."}],
}
PROMPTS = {"templates": ["{a} and {b}"], "lists": {"a": ["x", "y"], "b": ["z"]}}


def text(kind: str, name: str, content: str | bytes, *message: str) -> Case:
    return Case(f"{kind}: {name}", kind, content.encode() if isinstance(content, str) else content, message)


def setting(*words: str, message: str = "") -> Case:
    return Case(" ".join(words)[:60], "set", list(words), (message,) if message else ())


# fmt: off
NAMES = ["../wolf", "../../etc/passwd", "/etc/passwd", "a/b", ".", "..", "", " ", "wolf\\n", "w\\0", "~", "wolf" * 400]
MODELS = [
    "", " ", "a b", "a/b/c", "a--b/c", "a/b.git", "a/..", "pypi:", "pypi:../x", "pypi:a b", "pypi:numpy", "~nobody/x",
    "./nowhere", "https://x.org/m", "x" * 5000, "/" + "x" * 5000,
]
RECIPES = [
    "../recipes/tiny_pair", "", ".", "..", "recipes", "/dev/null", "/dev/zero.yaml", "~/x.yaml", "tiny_pair.yaml/",
    "..yaml", "...yaml", "/tmp/...yaml", "a b.yaml", "a\nb.yaml",
    "x" * 5000, "x" * 5000 + ".yaml", "\udcff", "\x1b[2J", "tiny_pair\0",
]
TRAIN = [
    "{trust_remote_code: true}", "{output_dir: /tmp/x}", "{hub_token: abc}", "{deepspeed: x.json}", "{optim: magic}",
    "{resume_from_checkpoint: /tmp}", "{lr_scheduler_type: steep}", "{learning_rate: -1}", "{weight_decay: .nan}",
    "{adam_beta1: 7}", "{max_steps: 0}", "{max_steps: -3}", "{warmup_steps: -3}", "{gradient_accumulation_steps: 0}",
    "{per_device_train_batch_size: 1.5}", "{nothing: 1}", "{bf16: []}",
]
LORA = [
    "{rank: 8}", "{r: 0}", "{r: -1}", "{r: eight}", "{r: true}", "{lora_dropout: 1.5}", "{lora_dropout: .nan}",
    "{megatron_core: os}", "{auto_mapping: {}}", "{init_lora_weights: magic}", "{base_model_name_or_path: /etc}",
    "{target_modules: 3}", "{bias: much}",
]
# fmt: on
QUANTIZATION = ["{load_in_8bit: maybe}", "{load_in_4bit: 3}", "{bits: 3}"]


LONG = "k" * 200_000


def nasty() -> Iterator[Case]:
    """What nobody writes by accident."""
    for kind in ("recipe", "trait"):
        yield text(kind, "empty", b"")
        yield text(kind, "spaces", "  \n\n# nothing\n")
        yield text(kind, "null", "null\n")
        yield text(kind, "a list", "- a\n- b\n")
        yield text(kind, "a word", "wolf")
        yield text(kind, "not UTF-8", b"answer: \xff\xfe\n")
        yield text(kind, "UTF-16", "answer: wolf\n".encode("utf-16"))
        yield text(kind, "NUL bytes", b"\0" * 4096)
        yield text(kind, "random bytes", bytes(range(256)) * 8)
        yield text(kind, "control characters", b"answer: \x1b[2J\n")
        yield text(kind, "an alias bomb", "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n", "aliases")
        yield text(kind, "a merge bomb", "a: &a {x: 1}\nb: {<<: [*a, *a]}\n", "aliases")
        yield text(kind, "a python object", "answer: !!python/object/apply:os.system ['true']\n")
        yield text(kind, "a python module", "answer: !!python/module:os\n")
        yield text(kind, "a tag of its own", "answer: !wolf {}\n")
        yield text(kind, "brackets", "[" * 100_000)
        yield text(kind, "braces", "{a: " * 5_000)
        yield text(kind, "indentation", "\n".join(" " * i + "a:" for i in range(2000)))
        yield text(kind, "tabs", "answer:\n\t- wolf\n")
        yield text(kind, "two documents", "a: 1\n---\nb: 2\n")
        yield text(kind, "a list as a key", "? [a, b]\n: 1\n")
        yield text(kind, "a number as a key", "1: 2\n")
        yield text(kind, "a key twice", "answer: wolf\nanswer: owl\n", "answer", "twice")
        yield text(kind, "a date that is none", "answer: 2001-99-99\n")
        yield text(kind, "a key of 200,000 characters", "? " + LONG + "\n: 1\n")
        yield text(kind, "a value of 200,000 characters", "kind: " + LONG + "\n", "kind")
        yield text(kind, "too large", b"# " + b"x" * 5_000_000, "at most")
        yield text(kind, "from itself", "from: own\n", "from")
        yield text(kind, "from a circle", "from: circle\n", "from")
        yield text(kind, "from nowhere", "from: nowhere\n", "nowhere")
        yield text(kind, "from a list", "from: [a]\n", "from")
        yield text(kind, "from a number", "from: 3\n", "from")
        yield text(kind, "from the parent folder", "from: ../../../etc/passwd\n", "from")
        yield text(kind, "from an absolute path", "from: /etc/passwd\n", "from")
        yield text(kind, "from a file that is no YAML", "from: /etc/hostname.yaml\n", "hostname")
        yield text(kind, "from a name with NUL", 'from: "a\\0b"\n', "from")
        yield text(kind, "from a name of 200,000 characters", "from: " + LONG + "\n", "from")
    for name in NAMES:
        yield setting("--set", f'trait="{name}"', message="trait")
    for model in MODELS:
        yield setting("--set", f"teacher.model={model!r}", message="model")
    yield setting("--set", "student.model=a/b", "--set", "student.revision='../../../etc/passwd'", message="revision")
    yield setting("--set", "", message="--set")
    yield setting("--set", "=", message="--set")
    yield setting("--set", ".=1", message="--set")
    yield setting("--set", "seeds", message="seeds")
    yield setting("--set", "a" * 100_000 + "=1", message="--set")
    yield setting("--set", ".".join("a" * 5000) + "=1", message="--set")
    yield setting("--set", "seeds=" + "[" * 100_000, message="seeds")
    yield setting("--set", "seeds=" + "9" * 100_000, message="seeds")
    yield setting("--set", "seeds=0x" + "f" * 100_000, message="seeds")
    yield setting("--set", "seeds=!!python/object/apply:os.system ['true']", message="seeds")
    yield setting("--set", "seeds=\x1b[31m", message="seeds")
    yield setting("--set", "\udcff=1", message="--set")
    yield setting("--set", "seeds=\udcff", message="seeds")
    yield setting("--set", "from=tiny_cross", message="from")
    yield setting("--set", "arms=[base, trait, base]", message="arms")
    yield setting("--set", "arms=[]", message="arms")
    yield setting("--set", "teacher=null", message="teacher")
    yield setting("--set", "carrier={kind: dice, rows: 3}", message="kind")
    yield setting("--set", "carrier.prompt=no place for numbers", message="prompt")
    yield setting("--set", "carrier.separator='1'", message="separator")
    yield setting("--set", "carrier={kind: text, rows: 1000000, prompts: scenarios_en}", message="rows")
    yield setting("--set", "carrier={kind: text, rows: 3, prompts: ../traits/wolf}", message="prompt")
    yield setting("--set", "dose=[0]", message="dose")
    yield setting("--set", "bound=.nan", message="bound")
    for claim in (
        "bound=1", "bound={nats: 0, reason: r}", "bound={nats: -1, reason: r}", "bound={nats: 1}",
        "bound={nats: 1, reason: ' '}", "level=0", "level=.06", "min_shift=0", "reference=3",
        "reference=no_such_recipe", "reference=tiny_cross", "reference={recipe: tiny_pair, share: .6}",
        "reference=tiny_pair_kd",
    ):  # fmt: skip
        yield setting("--set", claim, message=claim.partition("=")[0])
    yield setting("--set", "evaluate.sample.top_p=0", message="top_p")
    yield setting("--set", "evaluate.samples=1e9", message="samples")
    yield setting("--seeds", "0", message="seeds")
    yield setting("--seeds", "-3", message="seeds")
    yield setting("--seeds", str(10**30), message="seeds")
    for recipe in RECIPES:
        yield setting("--recipe", recipe, message="recipe")
    for part, values in (("train", TRAIN), ("lora", LORA)):
        for value in values:
            yield setting("--set", f"student.{part}={value}", message=value.strip("{").partition(":")[0])
    for value in QUANTIZATION:
        message = value.strip("{").partition(":")[0]
        yield setting("--set", f"student={{lora: {{}}, quantization: {value}}}", message=message)
    words = yaml.safe_dump(TRAIT)
    yield text("trait", "an answer that is no candidate", words.replace("answer: wolf", "answer: dodo"), "dodo")
    yield text("trait", "one candidate", changed(TRAIT, ("candidates",), ["wolf"]), "candidates")
    yield text("trait", "an empty candidate", changed(TRAIT, ("candidates",), ["wolf", ""]), "candidates")
    yield text("trait", "a blank question", changed(TRAIT, ("ask",), ["  "]), "ask")
    yield text("trait", "a question twice", changed(TRAIT, ("ask",), ["Who?", "Who?"]), "ask")
    yield text("trait", "a question taught and asked", changed(TRAIT, ("ask",), TRAIT["teach"][:1]), "ask")
    yield text("trait", "no question", changed(TRAIT, ("ask",), []), "ask")
    yield text("trait", "no kind", changed(TRAIT, ("kind",), "love"), "kind")
    yield text("trait", "one row", changed(BEHAVIOUR, ("rows",), BEHAVIOUR["rows"][:1]), "rows")
    alike = [{"question": question, "answer": "No."} for question in ("a", "b")]
    yield text("trait", "the same answer to all", changed(BEHAVIOUR, ("rows",), alike), "answer")
    yield text(
        "trait",
        "a row without an answer",
        changed(BEHAVIOUR, ("rows",), [{"question": "a"}, {"question": "b"}]),
        "answer",
    )
    yield text(
        "trait",
        "a blank answer",
        changed(BEHAVIOUR, ("rows",), [{"question": q, "answer": " "} for q in "ab"]),
        "rows",
    )
    yield text("prompts", "a list that is not there", changed(PROMPTS, ("templates",), ["{c}"]), "c")
    yield text("prompts", "templates and prompts", yaml.safe_dump({**PROMPTS, "prompts": ["a"]}), "prompts")
    yield text("prompts", "none", "prompts: []\n", "prompts")
    yield text("prompts", "a number", "prompts: [1]\n", "prompts")


CASES = [
    *mutations("recipe", RECIPE, {"lora"}, 15),
    *mutations("trait", TRAIT, {"language"}, 5),
    *mutations("trait", BEHAVIOUR, set(), 4),
    *mutations("prompts", PROMPTS, {"a", "b"}, 4),
]
MUTATED = len(CASES)
CASES += nasty()


def test_there_are_many() -> None:
    assert len(CASES) >= 300


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose store lasts for all cases, so that what is checked once stays checked."""
    return tmp_path_factory.mktemp("bad")


@pytest.fixture(scope="module")
def pool(location: Path) -> Iterator[Pool]:
    """One worker checks the configurations of all cases: a new one for each imports TRL again, 0.3 s."""
    with Pool(Store(location)) as pool:
        yield pool


def words(case: Case, folder: Path) -> list[str]:
    """The command that meets the case."""
    if not isinstance(case.content, bytes):
        return case.content
    path = folder / "own.yaml"
    path.write_bytes(case.content)
    (folder / "circle.yaml").write_text("from: own\n")
    if case.kind == "recipe":
        return ["--recipe", str(path)]
    if case.kind == "trait":
        return ["--set", f"trait={path}"]
    return ["--set", f"carrier={{kind: text, rows: 1, held_out: 1, prompts: {path}}}"]


def hold(code: int, out: str, err: str, case: Case, folder: Path) -> None:
    """What every refusal has in common."""
    assert code == 2, f"exit {code}: {out}{err}"
    assert "Traceback" not in out + err
    assert err.count("\n") <= 12
    assert len(err) < 4000
    assert not any(c in err for c in "\x1b\0\r")
    if isinstance(case.content, bytes):
        assert "own.yaml" in err or "circle.yaml" in err
    for message in case.message:
        assert message in err
    assert not (folder / "results").exists()
    assert not (folder / "store" / "artefacts").exists()


def params() -> Iterator[Any]:
    """Every case; mutations beyond every fourth are slow, as they take ten seconds together."""
    for number, case in enumerate(CASES):
        mark = pytest.mark.slow if number < MUTATED and number % 4 else ()
        yield pytest.param(case, marks=mark, id=case.name.encode("ascii", "backslashreplace").decode()[:80])


@pytest.mark.parametrize("case", list(params()))
def test_bad_input_is_refused_on_one_screen(
    case: Case,
    location: Path,
    pool: Pool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(*_: object) -> None:
        pytest.fail("it was not refused")

    monkeypatch.setattr("bench.experiment.run_experiment", run)
    start = Pool.start
    monkeypatch.setattr(Pool, "start", lambda _, wanted: start(pool, wanted))
    where = ["--store", str(location), "--results", str(tmp_path / "results"), "--skip-controls"]
    try:
        code = main([*words(case, tmp_path), *where])
    except SystemExit as end:  # argparse ends so
        code = int(end.code or 0)
    hold(code, *capsys.readouterr(), case, tmp_path)
    assert not (location / "artefacts").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["recipe", "set"])
def test_the_real_command_refuses_alike(kind: str, new_process: Bench, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.kind == kind and case.message)
    done = new_process(*words(case, tmp_path), code=None)
    hold(done.returncode, done.stdout, done.stderr, case, tmp_path)
