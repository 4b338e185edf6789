"""The command line: the library's own answer on what is in the files, in words, JSON and exit status."""

import argparse
import ast
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ssl_mi.information import ksg, mutual_information
from ssl_mi.information.apps import catalogue as named
from ssl_mi.information.apps import estimate as command
from ssl_mi.information.apps import estimators
from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.inference.uncertainty import SUBSETS, with_uncertainty
from ssl_mi.information.variational.lookup import built_in_bounds

QUICK = ["--estimator", "cca_mi", "--permutations", "0", "--no-interval"]


def run(command, *arguments):
    """A command's exit status for these arguments."""
    parser = argparse.ArgumentParser()
    command.configure(parser)
    try:
        return command.run(parser.parse_args(arguments))
    except SystemExit as left:
        return left.code


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with x.npy [400, 2], y.npy [400, 2] and labels.npy [400], I(x; y) = ln 2."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 2))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", x + rng.standard_normal((400, 2)))
    np.save(tmp_path / "labels.npy", (x[:, 0] > 0).astype(int))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(folder, capsys):
    """Arguments -> (exit status, stdout, stderr)."""

    def answer(*arguments):
        return run(command, *arguments), *capsys.readouterr()

    return answer


def loaded(*names):
    return [np.load(f"{name}.npy") for name in names]


def test_it_reads_what_the_library_reads_and_tells_all_of_it(call):
    status, out, err = call(
        "x.npy", "y.npy", "--estimator", "ksg", "--k", "5", "--seed", "3", "--level", "0.9", "--json"
    )
    told = json.loads(out)
    expected = with_uncertainty(lambda x, y, k=5: ksg(x, y, k, seed=3), *loaded("x", "y"), level=0.9, seed=3)
    for name in ("value", "kind", "se", "ci_level", "p_value", "null", "ceiling", "n", "estimator", "settings"):
        assert told[name] == getattr(expected, name), name
    assert told["ci"] == list(expected.ci)
    assert (told["dims"], told["unit"], told["warnings"]) == ([2, 2], "nats", [w.to_dict() for w in expected.warnings])
    assert told["x"] == {"source": "x.npy", "shape": [400, 2], "dtype": "float64"}
    assert (status, err) == (0, "")
    assert told["ci"][0] < math.log(2) < told["ci"][1]


def test_the_default_is_the_default_estimator_with_its_own_interval_and_null(call, monkeypatch):
    status, out, _ = call("x.npy", "labels.npy", "--symbols", "y", "--permutations", "9", "--json")
    told = json.loads(out)
    expected = mutual_information(np.load("x.npy"), np.load("labels.npy").astype(str), permutations=9)
    assert (status, told["value"], told["p_value"]) == (0, expected.value, expected.p_value)
    assert told["ci"] == list(expected.ci)


def test_bits_convert_every_quantity_that_was_in_nats_and_nothing_else(call):
    arguments = ["x.npy", "y.npy", "--estimator", "ksg", "--permutations", "2", "--json"]
    nats, bits = (json.loads(call(*arguments, *more)[1]) for more in ([], ["--bits"]))
    assert bits.pop("unit") == "bits"
    assert nats.pop("unit") == "nats"
    for name in ("value", "se", "null", "ceiling"):
        assert bits.pop(name) * math.log(2) == pytest.approx(nats.pop(name), rel=1e-12)
    assert np.multiply(bits.pop("ci"), math.log(2)) == pytest.approx(nats.pop("ci"), rel=1e-12)
    assert bits.pop("seconds") > 0 < nats.pop("seconds")
    assert bits.pop("notes") == ["figures inside settings and warnings are in nats"][: len(nats["warnings"])]
    assert nats.pop("notes") == []
    assert bits == nats


def test_the_table_names_the_unit_and_puts_each_warning_on_a_line(call, monkeypatch):
    answer = Estimate(
        math.log(2),
        se=0.1,
        ci=(0.0, 2 * math.log(2)),
        ci_level=0.95,
        ceiling=math.log(8),
        n=400,
        dims=(2, 2),
        estimator="told",
        warnings=("one [k] thing", "another"),
    )
    entry = named.CATALOGUE["cca_mi"]
    monkeypatch.setattr(named.Entry, "load", lambda self: lambda x, y: answer if self is entry else None)
    status, out, _ = call("x.npy", "y.npy", *QUICK, "--bits")
    lines = [line.rstrip() for line in out.splitlines()]
    assert "I(x; y)    1.0000 bits" in lines
    assert "interval   0.0000 .. 2.0000 bits at 95%" in lines
    assert "ceiling    3.0000 bits" in lines
    assert "dims       2 x 2" in lines
    assert lines[-3:] == [
        "warning: one [k] thing",
        "warning: another",
        "note: figures inside settings and warnings are in nats",
    ]
    assert status == 0
    assert call("x.npy", "y.npy", *QUICK, "--strict")[0] == 3
    object.__setattr__(answer, "warnings", ())
    assert call("x.npy", "y.npy", *QUICK, "--strict")[0] == 0


def test_few_rows_get_no_interval_unless_it_is_asked_for(call):
    np.save("few.npy", np.load("x.npy")[:150])
    np.save("few_y.npy", np.load("y.npy")[:150])
    plain = json.loads(call("few.npy", "few_y.npy", "--estimator", "cca_mi", "--json")[1])
    assert plain["ci"] is None
    assert plain["notes"] == ["no interval: 150 rows are too few for 5 parts; it takes 200"]
    asked = json.loads(call("few.npy", "few_y.npy", "--estimator", "cca_mi", "--interval", "--json")[1])
    assert asked["ci"][0] < asked["value"] < asked["ci"][1]


def test_parts_that_an_estimator_refuses_cost_the_interval_and_not_the_estimate(call):
    np.save("wide.npy", np.random.default_rng(1).standard_normal((400, 100)))  # cca_mi needs more than 102 rows
    status, out, _ = call("wide.npy", "y.npy", "--estimator", "cca_mi", "--json")
    told = json.loads(out)
    assert (status, told["ci"]) == (0, None)
    assert "a part of 1/5 of the rows was refused: x and y have n=80 rows" in told["notes"][0]
    status, _, err = call("wide.npy", "y.npy", "--estimator", "cca_mi", "--interval")
    assert status == 1
    assert "n=80 rows" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x.npy", "nofile.npy"], "there is no file nofile.npy"),
        (["x.npi", "y.npy"], "'.npi' are not supported"),
        (["x.npy", "short.npy"], r"x has 400 rows (x.npy) and y has 399 (short.npy)"),
        (["x.npy", "y.npy", "--estimator", "ksg", "--k", "400"], "k=400 neighbours need at least 401"),
        (["x.npy", "text.npy", "--estimator", "ksg"], "y has dtype <U3"),
        (["x.npy", "y.npy", "--estimator", "infonce:critic=no.such:Critic"], "no critic no.such:Critic"),
    ],
)
def test_what_can_not_be_estimated_is_said_on_stderr_with_status_one_and_no_traceback(call, arguments, said):
    np.save("short.npy", np.load("y.npy")[1:])
    np.save("text.npy", np.where(np.load("labels.npy"), "one", "two"))
    status, out, err = call(*arguments, "--json")
    assert (status, out) == (1, "")
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--estimator", "kgs"], "no estimator is called 'kgs' (nearest: ksg)"),
        (["--estimator", "ksg:varient=2"], "ksg takes no 'varient' (nearest: variant); it takes: k, variant"),
        (["--estimator", "cca_mi", "--k", "3"], "cca_mi takes no 'k'; it takes: corrected"),
        (["--estimator", "ksg:k=3", "--k", "4"], "both give k: leave out one"),
        (["--estimator", "ksg:3"], "'ksg:3' is not understood"),
        (["--estimator", "club:foo=3"], "club takes no 'foo'; it takes: hidden, components, fit, validation, test,"),
        (["--estimator", "infonce:max_step=3"], "infonce takes no 'max_step' (nearest: max_steps)"),
        (["--k", "0"], "a whole number, 1 or more, is needed; got '0'"),
        (["--level", "95"], "a number between 0 and 1 is needed"),
        (["--permutations", "-1"], "0 or more"),
        (["--no-interval"], "always gives its interval"),
        (["--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_wrong_usage_is_status_two_with_what_would_be_right(call, arguments, said):
    status, out, err = call("x.npy", "y.npy", *arguments)
    assert (status, out) == (2, "")
    assert said in err


def test_networks_are_fitted_once_and_print_nothing_into_the_answer(call, capsys):
    status, out, err = call(
        "x.npy", "y.npy", "--estimator", "infonce:max_steps=4,check_every=2", "--json", "--progress"
    )
    told = json.loads(out)
    assert (status, told["kind"], told["settings"]["steps"]) == (0, "lower bound", 4)
    assert told["null"] is None
    assert err  # the progress


def test_rows_that_share_sources_or_follow_in_time_are_described_by_a_file_a_column_or_a_number(call):
    """The sources of a file of their own, of a column beside the samples, and blocks, as the library takes them."""
    x, y = loaded("x", "y")
    source = np.arange(400) // 4
    np.save("sources.npy", source)
    rows = zip(x[:, 0].tolist(), y[:, 0].tolist(), source, strict=True)
    table = "\n".join(["a,b,who", *(f"{u},{v},s{s}" for u, v, s in rows)])
    Path("table.csv").write_text(table)
    knn = ["--estimator", "ksg", "--json"]
    _, out, _ = call("x.npy", "y.npy", *knn, "--groups", "sources.npy")
    expected = with_uncertainty(ksg, x, y, groups=source)
    assert (json.loads(out)["ci"], json.loads(out)["null"]) == (list(expected.ci), expected.null)
    _, out, _ = call("table.csv", "--x-columns", "a", "--y-columns", "b", "--groups-column", "who", *knn)
    expected = with_uncertainty(ksg, x[:, 0], y[:, 0], groups=source)
    assert json.loads(out)["null"] == pytest.approx(expected.null, rel=1e-9)
    assert json.loads(out)["settings"] == {"k": 3, "groups": 100}
    _, out, _ = call("x.npy", "y.npy", *knn, "--blocks", "8")
    assert json.loads(out)["null"] == with_uncertainty(ksg, x, y, blocks=8).null
    networks = ["--estimator", "infonce:max_steps=2,check_every=2", "--json"]
    for how, name, count in (["--groups", "sources.npy"], "groups", 100), (["--blocks", "8"], "blocks", 8):
        status, out, _ = call("x.npy", "y.npy", *networks, *how)
        assert (status, json.loads(out)["settings"][name]) == (0, count)
        _, out, _ = call("x.npy", "labels.npy", "--permutations", "9", "--json", *how)
        assert json.loads(out)["settings"][name] == count


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--groups", "g.npy", "--blocks", "3"], 2, "--groups and --blocks are both given"),
        (["--groups", "short.npy"], 1, "groups has shape (30,) for 400 rows"),
        (["--groups", "nofile.npy"], 1, "there is no file nofile.npy"),
        (["--groups", "x.npy"], 2, "the sources are in a file of the samples"),
        (["--groups", "few.npy"], 1, "groups has 4 groups"),
        (["--blocks", "90"], 1, "blocks=90 leaves 4.4 independent windows"),
        (["--blocks", "8", "--estimator", "infonce", "--permutations", "3"], 2, "leave out --permutations"),
    ],
)
def test_sources_that_cannot_be_used_are_named(call, arguments, status, said):
    np.save("short.npy", np.arange(30))
    np.save("few.npy", np.arange(400) % 4)
    found, out, err = call("x.npy", "y.npy", *arguments)
    assert (found, out) == (status, "")
    assert said in err
    assert "Traceback" not in err


def test_one_file_may_hold_both_sides(call):
    x, y = loaded("x", "y")
    np.savez("both.npz", x=x, y=y)
    np.savez("views.npz", zx=x, zy=y)
    table = "\n".join(["a,b,c,d", *(",".join(map(str, row)) for row in np.hstack([x, y]).tolist())])
    Path("table.csv").write_text(table)
    expected = json.loads(call("x.npy", "y.npy", *QUICK, "--json")[1])["value"]
    for arguments in (
        ["both.npz"],
        ["views.npz", "--x-key", "zx", "--y-key", "zy"],
        ["views.npz:zx", "views.npz:zy"],
        ["table.csv", "--x-columns", "a,b", "--y-columns", "c,d"],
        ["table.csv", "--y-columns", "2:4"],
    ):
        assert json.loads(call(*arguments, *QUICK, "--json")[1])["value"] == pytest.approx(expected, rel=1e-9), (
            arguments
        )


# What there is


def test_every_estimator_of_two_samples_is_in_the_catalogue():
    """A function (x, y, ...) -> Estimate that is missing there could not be named on the command line."""
    listed = {(entry.home, entry.function) for entry in named.CATALOGUE.values()}
    found = set()
    home = Path(command.__file__).parents[1]  # of ssl_mi.information
    for path in home.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and getattr(node.returns, "id", "") == "Estimate":
                needed = node.args.args[: len(node.args.args) - len(node.args.defaults)]
                if not node.name.startswith("_") and [a.arg for a in needed] in (["x", "y"], ["x", "labels"]):
                    found.add((".".join(path.relative_to(home).with_suffix("").parts), node.name))
    assert len(found) > 12
    assert listed == found
    assert set(built_in_bounds()) <= set(named.CATALOGUE)


@pytest.mark.parametrize("name", named.CATALOGUE)
def test_all_about_an_estimator_can_be_asked(name, capsys):
    assert run(estimators, name) == 0
    out = capsys.readouterr().out
    assert out.startswith(name)
    assert len(out) > 140


def test_the_list_names_them_all_and_what_is_unknown_is_refused(capsys):
    assert run(estimators) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in named.CATALOGUE)
    assert run(estimators, "sliced") == 2
    assert "nearest: sliced_mi" in capsys.readouterr().err


def test_the_help_teaches(capsys):
    assert run(command, "--help") == 0
    out = capsys.readouterr().out
    for said in ("one pair", "--x-columns", "mixed_ksg_ross", "p >= 1/(1+B)", "examples", "exit status"):
        assert said in out
    assert f"on {SUBSETS} parts of the rows" in out


@pytest.mark.parametrize("name", ["estimate", "estimators", "benchmark"])
def test_help_loads_nothing_heavy(name):
    program = (
        "import argparse, sys\n"
        f"from ssl_mi.information.apps import {name} as command\n"
        "command.configure(argparse.ArgumentParser())\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    assert set(done.stdout.split()).isdisjoint({"numpy", "torch", "rich", "scipy", "numba", "matplotlib"})


# Estimators of the user's own


@pytest.fixture
def own(folder, monkeypatch):
    """A module of the user's in the working folder."""
    (folder / "my_estimators.py").write_text(
        "from ssl_mi.information import Estimate\n"
        "def rows(x, y, plus=0):\n"
        "    return Estimate(float(len(x) + plus), estimator='rows', warnings=('made up',))\n"
        "def number(x, y):\n"
        "    return len(x) / 2\n"
        "def words(x, y):\n"
        "    return 'many'\n"
        "def broken(x, y):\n"
        "    raise KeyError('no such thing')\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_estimators", raising=False)


def test_an_estimator_of_ones_own_is_named_by_its_import_path_and_may_return_a_number(own, call):
    bare = ["--permutations", "0", "--no-interval", "--json"]
    status, out, _ = call("x.npy", "y.npy", "--estimator", "my_estimators:rows:plus=3", *bare)
    assert (status, json.loads(out)["value"]) == (0, 403)
    assert json.loads(out)["warnings"] == [{"code": "own", "message": "made up"}]
    status, out, _ = call("x.npy", "y.npy", "--estimator", "my_estimators:number", *bare)
    assert (status, json.loads(out)["value"], json.loads(out)["estimator"]) == (0, 200, "my_estimators:number")
    # With an interval around it: 3 ways to cut into 5 parts of 80 rows, each of which gives 40.
    status, out, _ = call("x.npy", "y.npy", "--estimator", "my_estimators:number", "--permutations", "3", "--json")
    assert (status, json.loads(out)["se"], json.loads(out)["p_value"]) == (0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("words", 1, "my_estimators:words returned a str"),
        ("broken", 1, "my_estimators:broken raised KeyError: 'no such thing'"),
        ("missing", 2, "no estimator my_estimators:missing"),
        ("rows:minus=3", 2, "takes no 'minus'"),
    ],
)
def test_what_is_wrong_with_an_estimator_of_ones_own_is_said_in_a_line(own, call, name, status, said):
    found, out, err = call("x.npy", "y.npy", "--estimator", f"my_estimators:{name}")
    assert (found, out) == (status, "")
    assert said in err
    assert "Traceback" not in err
