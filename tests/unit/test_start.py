"""./tfotrace, the start script: what it installs, prints and runs, with stand-ins for Python, apt-get and id."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]

# Knows `-c` (may the module be imported?) and `-m venv|pip|compileall|tracer`, writes down each call. What is
# "installed" is the files of $WORLD.
FAKE_PYTHON = r"""#!/bin/sh
echo "$(basename "$0") $*" >>"$WORLD/calls"
shift # -I
case $1 in
-c)
	case $2 in
	*version_info*) [ ! -e "$WORLD/old" ] ;;
	*ensurepip*) [ -e "$WORLD/python3-venv" ] ;;
	*libpcap*) [ ! -e "$WORLD/no-libpcap" ] ;;
	*bcc.BPF*) [ -e "$WORLD/python3-bpfcc" ] && echo "$WORLD/python3-bpfcc" ;;
	esac
	;;
-m)
	case $2 in
	venv)
		mkdir -p "$4/bin" "$4/lib/python3.11/site-packages"
		cp "$0" "$4/bin/python"
		;;
	pip)
		[ ! -p "$WORLD/gate" ] || cat "$WORLD/gate"
		if [ -e "$WORLD/pip-fails" ]; then
			echo "no route to the index" >&2
			exit 1
		fi
		echo "output of pip"
		;;
	tracer)
		shift 2
		echo "$TFOTRACE_STARTED_AS" >"$WORLD/started-as"
		echo "ran tracer in $PWD"
		for argument; do echo "<$argument>"; done
		exit 7
		;;
	esac
	;;
esac
"""

FAKE_APT = r"""#!/bin/sh
echo "apt-get $*" >>"$WORLD/calls"
case $* in
*update*) : >"$WORLD/lists" ;;
*install*)
	if [ ! -e "$WORLD/lists" ]; then
		echo "E: Unable to locate package" >&2
		exit 100
	fi
	for word; do
		case $word in python3*) : >"$WORLD/$word" ;; libpcap0.8) rm -f "$WORLD/no-libpcap" ;; esac
	done
	;;
esac
"""


@dataclass
class Checkout:
    """A copy of the start script in a folder with a space in its name, and stand-ins for the system's programs."""

    base: Path
    path: Path = field(init=False)
    world: Path = field(init=False)

    def __post_init__(self) -> None:
        self.path = self.base / "my checkout"
        self.world = self.base / "world"
        self.path.mkdir()
        self.world.mkdir()
        for name in ("tfotrace", "requirements.lock"):
            shutil.copy2(ROOT / name, self.path / name)
        (self.path / "scripts").mkdir()
        shutil.copy2(ROOT / "scripts" / "setup.sh", self.path / "scripts" / "setup.sh")
        self.stub("python3", FAKE_PYTHON)
        self.stub("apt-get", FAKE_APT)
        self.stub("dpkg", "#!/bin/sh\n")
        self.release("ID=debian\n")
        self.become(0)

    def stub(self, name: str, text: str) -> None:
        target = self.base / "bin" / name
        target.parent.mkdir(exist_ok=True)
        target.write_text(text)
        target.chmod(0o755)

    def become(self, uid: int) -> None:
        """Set what `id -u` prints: only root may call apt-get."""
        self.stub("id", f"#!/bin/sh\necho {uid}\n")

    def release(self, text: str) -> None:
        (self.base / "os-release").write_text(text)

    def has(self, *names: str) -> None:
        for name in names:
            (self.world / name).touch()

    def environment(self, path: str | None = None) -> dict[str, str]:
        return {
            "PATH": path if path is not None else f"{self.base / 'bin'}:/usr/bin:/bin",
            "WORLD": str(self.world),
            "TFOTRACE_PYTHON": str(self.base / "bin" / "python3"),
            "TFOTRACE_OS_RELEASE": str(self.base / "os-release"),
            "TMPDIR": str(self.world),
        }

    def start(
        self,
        *arguments: str,
        command: Sequence[str | Path] | None = None,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        as_nobody: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*(command or [self.path / "tfotrace"]), *arguments],
            cwd=cwd or self.base,
            env=dict(environment or self.environment()),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            # To root everything is writable.
            user=65534 if as_nobody and os.geteuid() == 0 else None,
            group=65534 if as_nobody and os.geteuid() == 0 else None,
            extra_groups=[] if as_nobody and os.geteuid() == 0 else None,
        )

    def calls(self, prefix: str) -> list[str]:
        log = self.world / "calls"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line for line in lines if line.startswith(prefix)]

    def forget_calls(self) -> None:
        (self.world / "calls").unlink(missing_ok=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.fixture
def ready(checkout: Checkout) -> Checkout:
    """A checkout whose first start is over."""
    checkout.has("python3-venv", "python3-bpfcc")
    assert checkout.start().returncode == 7
    checkout.forget_calls()
    return checkout


def sentence(result: subprocess.CompletedProcess[str]) -> str:
    """The last line on stderr of a start that failed."""
    assert result.returncode == 3
    assert result.stdout == ""
    return result.stderr.splitlines()[-1]


def test_first_start_installs_what_is_missing_and_runs(checkout: Checkout) -> None:
    result = checkout.start("eth0", "--filter", "a b", "")

    assert result.stdout == f"ran tracer in {checkout.base}\n<eth0>\n<--filter>\n<a b>\n<>\n"
    assert result.returncode == 7, "tfotrace's own exit code is the start's"
    assert all(line.startswith("tfotrace: ") for line in result.stderr.splitlines())
    assert result.stderr.endswith("tfotrace: ready\n")
    installed = checkout.calls("apt-get")
    assert [call.split()[-1] for call in installed] == ["python3-bpfcc", "update", "python3-bpfcc"], (
        "no package lists at first: fetch them and try again"
    )
    assert "python3-venv python3-bpfcc" in installed[0]
    assert any("--require-hashes" in call for call in checkout.calls("python -I -m pip install"))
    assert not list(checkout.world.glob("tmp.*")), "no log stays behind"


def test_only_what_is_missing_is_installed(checkout: Checkout) -> None:
    checkout.has("python3-venv", "lists")
    assert checkout.start().returncode == 7
    (call,) = checkout.calls("apt-get")
    assert call.endswith(" install python3-bpfcc")


def test_libpcap_is_installed_too(checkout: Checkout) -> None:
    checkout.has("python3-venv", "python3-bpfcc", "no-libpcap", "lists")
    assert checkout.start().returncode == 7
    (call,) = checkout.calls("apt-get")
    assert call.endswith(" install libpcap0.8")


def test_nothing_missing_needs_neither_apt_nor_root(checkout: Checkout) -> None:
    checkout.has("python3-venv", "python3-bpfcc")
    checkout.become(1000)
    checkout.release("ID=nixos\n")
    assert checkout.start().returncode == 7
    assert checkout.calls("apt-get") == []


def test_later_start_runs_two_small_programs_only(ready: Checkout) -> None:
    """PATH has only these programs, so that any other fails; the stand-ins count their calls."""
    few = ready.base / "few"
    few.mkdir()
    for name in ("cksum", "readlink", "basename"):
        stub = few / name
        stub.write_text(f'#!/bin/sh\necho {name} >>"$WORLD/few"\nexec {shutil.which(name)} "$@"\n')
        stub.chmod(0o755)

    result = ready.start("schema", environment=ready.environment(path=str(few)))

    assert (result.returncode, result.stderr) == (7, "")
    started = (ready.world / "few").read_text().split()
    assert sorted(started) == ["basename", "cksum", "readlink"], "basename is the stand-in's own"
    assert ready.calls("") == ["python -I -m tracer schema"]


@pytest.mark.parametrize("shell", SHELLS)
def test_shells(ready: Checkout, shell: str) -> None:
    command = [shell, "sh"] if shell == "busybox" else [shell]
    result = ready.start("a", command=[*command, "tfotrace"], cwd=ready.path)
    assert (result.returncode, result.stderr) == (7, "")
    assert result.stdout.endswith("<a>\n")
    assert (ready.world / "started-as").read_text() == "./tfotrace\n"


def test_through_a_symlink_and_from_another_folder(ready: Checkout) -> None:
    link = ready.base / "bin" / "tfotrace"
    link.symlink_to("../my checkout/tfotrace")
    elsewhere = ready.base / "else where"
    elsewhere.mkdir()
    relative = "../my checkout/tfotrace"
    for command, name in (([link], link), (["tfotrace"], link), ([relative], relative)):
        environment = ready.environment()
        result = subprocess.run(
            [*command, "x"], cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert (result.returncode, result.stdout) == (7, f"ran tracer in {elsewhere}\n<x>\n")
        assert (ready.world / "started-as").read_text() == f"{name}\n"


def test_changed_lock_updates_in_place(ready: Checkout) -> None:
    with (ready.path / "requirements.lock").open("a") as lock:
        lock.write("# changed\n")
    result = ready.start()
    assert result.returncode == 7
    assert "keeping .venv" in result.stderr
    assert ready.calls("python3 -I -m venv") == []
    assert len(ready.calls("python -I -m pip install")) == 1
    assert ready.start().stderr == ""


def test_new_python_makes_a_new_venv(ready: Checkout) -> None:
    python = ready.base / "bin" / "python3"
    python.rename(ready.base / "bin" / "python3.99")
    python.symlink_to("python3.99")
    relic = ready.path / ".venv" / "relic"
    relic.touch()
    assert ready.start().returncode == 7
    assert not relic.exists()
    assert ready.start().stderr == ""


def test_bcc_that_went_away_is_installed_again(ready: Checkout) -> None:
    ready.has("lists")
    (ready.world / "python3-bpfcc").unlink()
    assert ready.start().returncode == 7
    assert len(ready.calls("apt-get")) == 1


def test_failing_pip_is_said_and_repaired_by_the_next_start(checkout: Checkout) -> None:
    checkout.has("python3-venv", "python3-bpfcc", "pip-fails")
    result = checkout.start("--json")
    assert "pip cannot install the packages of requirements.lock" in sentence(result)
    assert "no route to the index" in result.stderr, "what pip said is shown"

    (checkout.world / "pip-fails").unlink()
    assert checkout.start().returncode == 7


@contextlib.contextmanager
def pip_held(checkout: Checkout) -> Iterator[None]:
    """Within, pip has begun (opening a FIFO waits for its reader) and does not end."""
    gate = (checkout.world / "gate").open("wb", buffering=0)
    (checkout.world / "gate").unlink()
    with gate:
        yield


Spawn = Callable[[Checkout], "subprocess.Popen[str]"]


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Start ./tfotrace in its own process group, which ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(checkout: Checkout) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            # Tests that run in the background of a script have inherited an ignored SIGINT.
            ["env", "--default-signal=INT", checkout.path / "tfotrace"],
            cwd=checkout.base,
            env=checkout.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_first_start_is_repaired(checkout: Checkout, spawn: Spawn, signal_number: signal.Signals) -> None:
    checkout.has("python3-venv", "python3-bpfcc")
    os.mkfifo(checkout.world / "gate")
    first = spawn(checkout)
    relic = checkout.path / ".venv" / "half installed"
    with pip_held(checkout):
        relic.touch()
        os.killpg(first.pid, signal_number)
        stdout, _ = first.communicate(timeout=60)
    assert (stdout, first.returncode == 0) == ("", False)

    assert checkout.start().returncode == 7
    assert not relic.exists()


def test_concurrent_first_starts_set_up_once(checkout: Checkout, spawn: Spawn) -> None:
    checkout.has("python3-venv", "python3-bpfcc")
    os.mkfifo(checkout.world / "gate")
    first = spawn(checkout)
    with pip_held(checkout):
        second = spawn(checkout)
        assert second.stderr is not None
        waiting = second.stderr.readline()
    for start in (first, second):
        start.communicate(timeout=60)
        assert start.returncode == 7
    assert "waiting" in waiting
    assert len(checkout.calls("python3 -I -m venv")) == 1


def test_setup_leaves_the_lock_to_nobody(checkout: Checkout) -> None:
    """A daemon that apt-get starts, and tfotrace itself, must not hold it on."""
    look = 'ls /proc/self/fd | grep -qx 9 && echo "$0 holds 9" >>"$WORLD/held"\n'
    checkout.stub("apt-get", FAKE_APT.replace("#!/bin/sh\n", "#!/bin/sh\n" + look))
    checkout.stub("python3", FAKE_PYTHON.replace("\ttracer)\n", "\ttracer)\n" + look))
    checkout.has("lists")
    assert checkout.start().returncode == 7
    assert checkout.calls("apt-get")
    assert not (checkout.world / "held").exists()


def test_without_root_one_sentence_names_the_packages(checkout: Checkout) -> None:
    checkout.become(1000)
    said = sentence(checkout.start())
    assert "sudo" in said
    assert "python3-venv python3-bpfcc" in said
    assert checkout.calls("apt-get") == []
    assert not (checkout.path / ".venv").exists()


@pytest.mark.parametrize(
    ("release", "advice"),
    [
        ("ID=fedora\n", "dnf install python3-bcc"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "dnf install python3-bcc"),
        ("ID=arch\n", "pacman -S python-bcc"),
        ('ID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"\n', "zypper install python3-bcc"),
        ("ID=alpine\n", "apk add py3-bcc"),
        ("ID=nixos\n", "package manager"),
        ("", "package manager"),
    ],
)
def test_other_distributions_get_one_sentence(checkout: Checkout, release: str, advice: str) -> None:
    checkout.release(release)
    assert advice in sentence(checkout.start())
    assert checkout.calls("apt-get") == []


@pytest.mark.parametrize("release", ["ID=ubuntu\nID_LIKE=debian\n", "ID=linuxmint\nID_LIKE='ubuntu debian'\n"])
def test_relatives_of_debian_use_apt(checkout: Checkout, release: str) -> None:
    checkout.release(release)
    assert checkout.start().returncode == 7


def test_python_that_is_too_old(checkout: Checkout) -> None:
    checkout.has("old", "python3-venv", "python3-bpfcc")
    assert "older than 3.10" in sentence(checkout.start())


def test_python_first_on_path_does_not_count(checkout: Checkout) -> None:
    """pyenv's and conda's come first and have no bcc: the script never asks PATH for Python."""
    checkout.has("python3-venv", "python3-bpfcc")
    environment = checkout.environment()
    (checkout.base / "bin" / "python3").rename(checkout.base / "system-python3")
    environment["TFOTRACE_PYTHON"] = str(checkout.base / "system-python3")
    for name in ("python3", "python", "pip"):
        checkout.stub(name, '#!/bin/sh\necho wrong >>"$WORLD/wrong"\nexit 1\n')
    assert checkout.start(environment=environment).returncode == 7
    assert not (checkout.world / "wrong").exists()


def test_checkout_that_cannot_be_written_to() -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to other users
        Path(folder).chmod(0o755)
        checkout = Checkout(Path(folder))
        checkout.has("python3-venv", "python3-bpfcc")
        checkout.world.chmod(0o777)
        checkout.path.chmod(0o555)
        assert "is not yours to write to" in sentence(checkout.start(as_nobody=True))


def test_closed_standard_input(ready: Checkout) -> None:
    result = ready.start(command=["sh", "-c", 'exec "$0" eth0 <&-', ready.path / "tfotrace"])
    assert result.returncode == 7
    assert result.stdout.endswith("<eth0>\n")


def test_moved_checkout_runs_on(ready: Checkout) -> None:
    """The venv names the checkout relative to itself."""
    (pth,) = (ready.path / ".venv").glob("lib/*/site-packages/tfotrace.pth")
    assert (pth.parent / pth.read_text().strip()).resolve() == ready.path.resolve()
    ready.path = ready.path.rename(ready.base / "moved")
    result = ready.start()
    assert (result.returncode, result.stderr) == (7, "")
