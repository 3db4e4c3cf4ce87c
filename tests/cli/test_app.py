"""What all commands share: help, version, silence, exit codes of the real process."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.core import TyperOption

import rsunfold
from rsunfold.cli import app
from rsunfold.cli.options import PANELS
from rsunfold.registry import all_models


def commands(group, words=()):
    """(words, command) of ``group`` and of everything below it, the words as a tuple."""
    yield words, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*words, name))


TREE = dict(commands(typer.main.get_command(app)))
COMMANDS = sorted(TREE)


def test_the_commands_are_those_of_the_documentation():
    leaves = {" ".join(c) for c in COMMANDS if not any(d[: len(c)] == c and d != c for d in COMMANDS)}
    assert leaves == {
        "denoise-hsi",
        "detect-anomaly",
        "detect-ir",
        "evaluate denoise-hsi",
        "evaluate detect-anomaly",
        "evaluate detect-ir",
        "evaluate select-features",
        "explain detect-ir",
        "select-features",
        "train",
        "weights list",
        "weights info",
        "weights verify",
        "weights import",
        "weights calibrate",
        "models",
        "info",
        "sample hsi",
        "sample ir",
    }


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help(words, call):
    for option in ("--help", "-h"):
        text = call(*words, option).stdout
        assert "Usage:" in text and " ".join(words) in text


def test_options_are_shown_by_what_they_are_about():
    shown = {(o.name, o.rich_help_panel) for c in TREE.values() for o in c.params if isinstance(o, TyperOption)}
    for panel, names in PANELS.items():
        for name in names.split():
            assert {p for n, p in shown if n == name} == {panel}  # and no name that no command has
    assert {"model", "threshold", "sigma"} <= {name for name, panel in shown if panel is None}


@pytest.mark.parametrize("words", [("detect-anomaly",), ("evaluate", "detect-anomaly")], ids=" ".join)
def test_the_defaults_of_models_that_help_tells_are_theirs(words):
    helps = {p.name: p.help for p in TREE[words].params}
    for option in ("epochs", "inner", "outer", "components"):
        told = re.search(r"default: (.*) \(no other model has it\)", helps[option])[1]
        own = {spec.name: spec.options[option] for spec in all_models("detect-anomaly") if option in spec.options}
        default = {name: "all" if value is None else str(value) for name, value in own.items()}
        assert {name: value for value, _, name in (part.partition(" for ") for part in told.split(", "))} == default
    assert "between 0 and 0.5" in helps["pfa"] and "16 or more" in helps["window"]


def test_only_the_command_that_takes_tables_by_rows_speaks_of_them():
    helps = {
        words: {p.name: p.help for p in TREE[words].params}["header"]
        for words in TREE
        if words[-1:] == ("select-features",)
    }
    assert "--features rows" in helps["select-features",]
    assert "rows" not in helps["evaluate", "select-features"]


def test_help_tells_the_exit_codes(call):
    text = " ".join(call("--help").stdout.split())
    for code in ("0 success", "3 unreadable input", "7 some inputs of a batch failed", "130 interrupted"):
        assert code in text


def test_help_and_version_import_nothing_heavy():
    program = (
        "import sys\n"
        "from rsunfold.cli import main\n"
        "sys.argv = ['rsunfold', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'rasterio', 'matplotlib', 'scipy', 'skimage', 'sklearn', 'h5py', 'numpy'}\n"
        "print('heavy:', *sorted(heavy & set(sys.modules)))\n"
    )
    for words in (
        ["--help"],
        ["--version"],
        ["detect-ir", "--help"],
        ["detect-anomaly", "--help"],
        ["train", "--help"],
        ["select-features", "-h"],
    ):
        done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "heavy:", words


def test_patterns_are_not_expanded_before_they_are_looked_at(tmp_path):
    """On Windows click does so, which would take results of earlier runs for images."""
    program = (
        "import os, sys, types, typer.core\n"
        "from rsunfold.cli import main\n"
        "typer.core.os = types.SimpleNamespace(**{**vars(os), 'name': 'nt'})\n"
        "sys.argv = ['rsunfold', 'models', 'mpc*']\n"
        "main()\n"
    )
    (tmp_path / "mpcm").touch()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and "unknown model 'mpc*'" in done.stderr


def test_classical_methods_need_no_torch(scene, tmp_path):
    program = (
        "import sys\n"
        "from rsunfold.cli import main\n"
        "sys.argv = ['rsunfold', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print('torch' in sys.modules)\n"
    )
    words = ["detect-ir", scene, "-o", tmp_path, "--model", "top-hat", "--threads", "1", "-q"]
    done = subprocess.run([sys.executable, "-c", program, *map(str, words)], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_threads_are_those_of_all_libraries_whenever_they_are_loaded():
    program = (
        "import numpy\n"
        "from rsunfold.cli.running import use_threads\n"
        "use_threads(1)\n"
        "import scipy.linalg, torch\n"
        "from threadpoolctl import threadpool_info\n"
        "print({pool['num_threads'] for pool in threadpool_info()}, torch.get_num_threads())\n"
    )
    many = {**os.environ, "OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3", "MKL_NUM_THREADS": "3"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=many)
    assert done.stdout == "{1} 1\n"


@pytest.mark.parametrize(("given", "threads"), [({}, 1), ({"OMP_NUM_THREADS": "2"}, 2)])
def test_threads_are_no_more_than_a_container_allows(given, threads):
    program = (
        "import os\n"
        "import rsunfold.cli.running as running\n"
        "os.sched_getaffinity = lambda process: range(64)\n"
        "running.cores_in_groups = lambda: 1\n"
        "running.use_threads(None)\n"
        "import torch\n"
        "print(torch.get_num_threads())\n"
    )
    others = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={**others, **given}
    )
    assert done.stdout == f"{threads}\n"


@pytest.mark.parametrize(
    ("given", "spins"), [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")]
)
def test_threads_that_wait_leave_their_core_to_other_processes(given, spins):
    program = (
        "import os, sys\n"
        "from rsunfold.cli import main\n"
        "assert 'torch' not in sys.modules\n"
        "sys.argv = ['rsunfold', '--version']\n"
        "try:\n    main()\nexcept SystemExit:\n    print(os.environ.get('GOMP_SPINCOUNT'))\n"
    )
    own = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=own | given)
    assert done.stdout.split()[-1] == spins


def test_help_is_broken_where_the_terminal_ends_and_nowhere_else():
    commands = [
        (name, command)
        for group in (typer.main.get_command(app), *typer.main.get_command(app).commands.values())
        for name, command in getattr(group, "commands", {}).items()
    ]
    assert len(commands) > 15
    for name, command in commands:
        assert command.help and "\n" not in command.help.replace("\n\n", ""), name


def test_version(call):
    assert call("--version").stdout == f"rsunfold {rsunfold.__version__}\n"


def test_without_arguments_the_help_is_shown(call):
    for words in ((), ("evaluate",), ("weights",), ("sample",)):
        assert "Usage:" in call(*words, code=2).output


def test_wrong_usage(call):
    assert "No such command" in call("detect", code=2).stderr
    assert "No such option" in call("info", "x.tif", "--nothing", code=2).stderr
    assert "Missing option" in call("detect-ir", "x.tif", code=2).stderr


def test_a_defect_is_one_sentence_and_a_traceback_only_on_request(call, scene, monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError("of the test")

    monkeypatch.setattr("rsunfold.io.open_cube", broken)
    result = call("info", scene, code=1)
    assert result.stderr == (
        "error: internal error in rsunfold: ZeroDivisionError: of the test; run again with -v and report it.\n"
    )


def test_tracebacks_and_notes_with_v(scene, capfd):
    from typer.testing import CliRunner

    for words in (["-v", "info", "absent.tif"], ["info", "absent.tif", "-v"]):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 3
        assert "Traceback" in result.stderr and result.stderr.endswith("error: absent.tif does not exist.\n")
    assert "Traceback" not in CliRunner().invoke(app, ["info", "absent.tif"]).stderr


@pytest.mark.parametrize("before", [True, False])
def test_q_is_silent_on_success_and_not_on_failure(before, call, scene, scenes, tmp_path):
    def quietly(*words, code=0):
        return call("-q", *words, code=code) if before else call(*words, "-q", code=code)

    for words in (
        ("detect-ir", scene, "-o", tmp_path / f"out{before}", "--model", "top-hat", "--no-quicklook"),
        ("sample", "ir", tmp_path / f"s{before}", "--count", "1", "--size", "64"),
        ("info", scene),
        ("evaluate", "detect-ir", "--data", scenes, "--model", "top-hat"),
    ):
        assert quietly(*words).output == ""
    assert quietly("info", "absent.tif", code=3).stderr == "error: absent.tif does not exist.\n"
    loud = call("detect-ir", scene, "-o", tmp_path / "loud", "--model", "top-hat")
    assert " in 1 image (top-hat)" in loud.stdout


def test_the_process_ends_with_the_documented_codes(process, scene, tmp_path):
    (tmp_path / "empty.tif").touch()
    plain = ("--model", "top-hat", "--no-quicklook")
    started = {
        0: process("detect-ir", scene, "-o", tmp_path / "out", *plain),
        2: process("detect-ir", scene, "-o", tmp_path / "none", "--model", ""),
        3: process("info", tmp_path / "empty.tif"),
        4: process("sample", "ir", scene / "below"),
        7: process("detect-ir", scene, tmp_path / "empty.tif", "-o", tmp_path / "part", *plain),
    }
    for code, running in started.items():
        out, err = running.communicate(timeout=120)
        assert running.returncode == code, (code, out, err)
        assert "Traceback" not in err
        assert ("error: " in err) == (code != 0)


def test_names_with_brackets_and_colons_are_printed_as_they_are(call, tmp_path, scene):
    odd = tmp_path / "[bold]a :smile: [x]"
    odd.mkdir()
    image = odd / "[red]b[.png"
    image.write_bytes(scene.read_bytes())
    assert str(image) in call("info", image).stdout
    assert str(odd / "out") in call("detect-ir", image, "-o", odd / "out", "--model", "top-hat").stdout


@pytest.mark.skipif(os.name == "nt", reason="no such names")
def test_control_characters_of_names_are_written_out(call, fails, tmp_path, scene):
    image = tmp_path / "a\x1b]0;b\x07\x9b31m\nerror:\x7f\x9f c.png"
    shown = "a\\x1b]0;b\\x07\\x9b31m\\x0aerror:\\x7f\\x9f c.png"
    assert shown in fails(3, "info", image)
    image.write_bytes(scene.read_bytes())
    for done in (call("info", image), call("detect-ir", image, "-o", tmp_path / "out", "--model", "top-hat")):
        assert shown.removesuffix(".png") in done.output
        assert not {"\x1b", "\x07", "\x9b", "\x7f", "\x9f"} & set(done.output) and "\nerror" not in done.output


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["detect-ir", "a.png", "-o", ""], "the value of -o"),
        (["detect-ir", "a.png", "--out="], "the value of --out"),
        (["detect-ir", "a.png", "-o", "b", "--weights", ""], "the value of --weights"),
        (["evaluate", "detect-ir", "--data", ""], "the value of --data"),
        (["sample", "ir", ""], "an argument"),
    ],
)
def test_nothing_is_given_by_an_empty_argument(words, what, fails, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert fails(2, *words) == f"error: {what} is empty; check that your shell variables are set."
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("detect-ir", "--threshold", "0,4"),
            "--threshold takes a number, not '0,4'; write decimal points, not commas: 0.4",
        ),
        (("detect-ir", "--threshold=0.4x"), "--threshold takes a number, not '0.4x'"),
        (("detect-ir", "--min-area", "1,5"), "--min-area takes a whole number, not '1,5'"),
        (("detect-ir", "--scale", "280,5,320,5"), "not '280,5,320,5'; write decimal points, not commas: 280.5,320.5"),
        (("detect-ir", "--scale", "280"), "--scale takes two numbers such as 0,1000, not '280'"),
        (("detect-ir", "--model", "top-hat", "--memory", "1,5GB"), "'1,5GB'; write decimal points, not commas: 1.5GB"),
        (("detect-anomaly", "--pfa", "1%"), "not '1%'; write 0.01"),
        (
            ("detect-anomaly", "--percentile", "99,5 %"),
            "--percentile takes a number, not '99,5 %'; it takes no percentage",
        ),
        (("detect-anomaly", "--threshold", "40%"), "not '40%'; it takes no percentage"),
        (("detect-ir", "--confidence", "7%"), "--confidence takes a number, not '7%'; write 0.07"),
        (("detect-ir", "--threshold=40%"), "--threshold takes a number, not '40%'; write 0.4"),
        (("select-features", "--variance", "99.9%"), "not '99.9%'; write 0.999"),
        (("select-features", "-k", "10%"), "-k takes a whole number, not '10%'; it takes no percentage"),
        (("select-features", "-k", "x"), "-k takes a whole number, not 'x'"),
        (("select-features", "-k", 3, "--drop", "1340,5-1450,5"), "write decimal points, not commas: 1340.5-1450.5"),
        (("denoise-hsi", "--sigma", "0,05"), "'0,05'; write decimal points, not commas: 0.05"),
    ],
)
def test_numbers_that_are_none_are_told_with_how_to_write_them(words, message, fails, scene, tmp_path):
    command, *rest = words
    assert fails(2, command, scene, "-o", tmp_path / "out", *rest).endswith(f"{message}.")


def test_a_file_may_be_called_as_a_number_with_a_comma(fails, scene, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "0,05").write_text("{}")
    assert "0,05 is no summary of denoise-hsi" in fails(3, "denoise-hsi", scene, "-o", "out", "--sigma", "0,05")


@pytest.mark.parametrize(
    "command",
    [["detect-ir"], ["denoise-hsi"], ["detect-anomaly"], ["select-features", "-k", 3], ["explain", "detect-ir"]],
)
def test_a_path_with_spaces_that_was_not_quoted_is_told(command, fails, scene, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my new images").mkdir()
    message = fails(2, *command, scene, "my", "new", "images", "-o", "out")
    assert message == "error: the spaces in 'my new images' make 3 inputs of it; put the path in quotes."


def test_an_option_may_set_nothing(call, tmp_path):
    words = ["train", "l-rpcanet", "--data", tmp_path / "x", "--out", tmp_path, "--set", "data.split="]
    assert "x does not exist" in call(*words, code=3).stderr


@pytest.mark.skipif(os.name != "posix", reason="only POSIX tells a writer that its pipe was closed")
def test_a_reader_that_has_seen_enough(process, scene):
    done = process("info", scene)
    done.stdout.close()
    assert done.stderr.read() == "" and done.wait() == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [("info", "SCENE"), ("--version",), ("info", "SCENE", "--json", "-")])
def test_a_standard_output_that_is_full(process, scene, words):
    with Path("/dev/full").open("w") as full:
        done = process(*(scene if word == "SCENE" else word for word in words), stdout=full)
        message = done.communicate()[1]
    assert done.returncode == 4
    assert message == "error: standard output cannot be written (No space left on device).\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("code", [0, 4])
def test_files_are_written_whoever_reads_the_table(process, scenes, tmp_path, code):
    words = ("evaluate", "detect-ir", "--data", scenes, "--model", "top-hat", "--json", tmp_path / "a.json")
    words += ("--corrupt", "gaussian:0.1", "--picture", tmp_path / "a.png")
    with Path("/dev/full").open("w") as full:
        done = process(*words, stdout=full if code else subprocess.PIPE)
        if not code:
            done.stdout.close()
        done.stderr.read()
    assert done.wait() == code
    assert json.loads((tmp_path / "a.json").read_text()) and (tmp_path / "a.png").is_file()


def test_damaged_weights_are_told_by_the_exit_code_whoever_reads_the_others(process, tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"no weights")
    done = process("weights", "verify", "l-rpcanet", tmp_path / "bad.safetensors")
    done.stdout.close()
    assert "bad.safetensors" in done.stderr.read() and done.wait() == 5


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="POSIX only")
def test_an_import_is_not_cut_in_two_by_the_signal_of_a_batch_system(tmp_path):
    (tmp_path / "slow.py").write_text(
        "import os, signal, time\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(0.05)\n"
        "except BaseException:\n"  # as extension modules do
        "    print('swallowed', flush=True)\n"
        "print('imported', flush=True)\n"
    )
    program = "import signal, sys, time\nfrom rsunfold import cli\nsignal.signal(signal.SIGTERM, cli._stop)\n"
    program += "import slow\ntime.sleep(20)\nprint('went on')\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (143, "imported\n", "")


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="POSIX only")
@pytest.mark.parametrize(
    ("name", "code"), [("SIGTERM", 143), ("SIGUSR1", 128 + signal.SIGUSR1), ("SIGINT", -signal.SIGINT)]
)
def test_a_signal_is_not_lost_where_nothing_can_be_raised(name, code):
    program = f"""import os, signal, sys, time
from rsunfold import cli
class Closing:
    def __del__(self):
        os.kill(os.getpid(), signal.{name})
        time.sleep(0.05)
def app(**_):
    Closing()
    print("lost", flush=True)
    time.sleep(20)
cli.app = app
cli.main()"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (code, "lost\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_log_that_is_full_does_not_end_a_batch(process, scene, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    with Path("/dev/full").open("w") as full:
        done = process(
            "detect-ir", tmp_path / "broken.png", scene, "-o", tmp_path / "o", "--model", "top-hat", stderr=full
        )
        done.communicate()
    assert done.returncode == 7
    assert any(p.name.endswith("_summary.json") for p in (tmp_path / "o").iterdir())


def test_outputs_of_one_name_and_pictures_of_another_kind(fails, tmp_path):
    words = ["evaluate", "detect-ir", "--images", tmp_path, "--masks", tmp_path, "--model", "top-hat"]
    one = tmp_path / "a.png"
    message = fails(2, *words, "--roc", one, "--worst", tmp_path / "x" / ".." / "a.png")
    assert "two outputs have the name" in message
    message = fails(2, *words, "--roc", tmp_path / "a.jpg")
    assert "--roc writes PNG pictures: give a name that ends in .png, not" in message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX only")
def test_a_device_is_no_output(fails, scene, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for words in ([], ["--overwrite"]):
        message = fails(4, "info", scene, "--json", tmp_path / "pipe", *words)
        assert message.endswith("pipe is a device or a pipe, which cannot be replaced; give the name of a file.")


def test_folders_that_are_none(fails, scene, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    words = ["detect-ir", scene, "--model", "top-hat", "-o"]
    assert fails(4, *words, tmp_path / "file" / "x").endswith("file is a file, not a folder; choose another.")
    assert "link is a link to nothing; remove it" in fails(4, *words, tmp_path / "link")


def test_what_is_known_of_a_file_can_be_piped(call, scene):
    told = json.loads(call("info", scene, "--json", "-").stdout)
    assert told["path"] == str(scene) and not Path("-").exists()
