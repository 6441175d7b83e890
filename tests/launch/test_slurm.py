"""Through a real SLURM, of two nodes on this machine: each run of a sweep a job of its own, a cancelled one goes on by
the same command, and one run over both nodes."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import started
from support.whole_runs import PLAIN, SMOKE, ZERO, command, has_steps, left_behind

needed = ("munged", "slurmctld", "slurmd", "sbatch")
missing = [name for name in needed if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing), reason=f"no {', '.join(missing)} here; Debian: slurm-wlm munge"),
    pytest.mark.skipif(os.geteuid() != 0, reason="SLURM's daemons are started as root"),
    pytest.mark.skipif(not importlib.util.find_spec("submitit"), reason="pip install -e '.[slurm]' brings it"),
]
CONFIG = """ClusterName=local
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.sock,cred_expire=5
CryptoType=crypto/munge
SlurmctldPort=16817
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
MailProg=/bin/true
NodeName=node1 NodeHostname=localhost NodeAddr=127.0.0.1 Port=16818 CPUs={cpus} RealMemory=4000 State=UNKNOWN
NodeName=node2 NodeHostname=localhost NodeAddr=127.0.0.1 Port=16819 CPUs={cpus} RealMemory=4000 State=UNKNOWN
PartitionName=debug Nodes=node1,node2 Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which this cluster is the cluster; its daemons end with the tests."""
    folder = tmp_path_factory.mktemp("slurm")
    folder.chmod(0o755)
    for part in folder.parents:  # munged runs as its own user and must reach its folder
        if part.owner() == "root" and str(part).startswith("/tmp/"):
            part.chmod(0o755)
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(mode=0o755)
    munge = folder / "munge"
    (munge / "munge.key").write_bytes(os.urandom(1024))
    (munge / "munge.key").chmod(0o600)
    for path in (munge, munge / "munge.key"):
        shutil.chown(path, "munge", "munge")
    (folder / "slurm.conf").write_text(CONFIG.format(folder=folder, cpus=os.cpu_count()))
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "OMP_NUM_THREADS": "1"}
    environment["PATH"] += ":/usr/sbin"
    options = [
        f"--{name}-file={munge}/munge{end}" for name, end in (("key", ".key"), ("pid", "d.pid"), ("log", "d.log"))
    ]
    options += [f"--socket={munge}/munge.sock", f"--seed-file={munge}/munge.seed", "--force"]
    for daemon in (
        ["runuser", "-u", "munge", "--", "munged", *options],
        ["slurmctld"],
        ["slurmd", "-N", "node1"],
        ["slurmd", "-N", "node2"],
    ):
        subprocess.run(daemon, env=environment, check=True, timeout=60)
    yield environment
    subprocess.run(["scancel", "--user=root"], env=environment, check=False, timeout=30)
    deadline = time.monotonic() + 20
    while (
        time.monotonic() < deadline
        and subprocess.run(  # a job outlives the daemons that should end it
            ["squeue", "--noheader"], env=environment, capture_output=True, check=False, timeout=30
        ).stdout
    ):
        time.sleep(0.2)
    for file in (*folder.glob("*.pid"), munge / "munged.pid"):
        if file.is_file():
            os.kill(int(file.read_text()), signal.SIGKILL)


LAUNCHER = (
    "hydra/launcher=submitit_slurm",
    "hydra.launcher.partition=debug",
    "hydra.launcher.timeout_min=10",
    "hydra.launcher.mem_gb=1",
)


def test_a_job_that_is_cancelled_goes_on_by_the_same_command(slurm: dict[str, str], calm_sweep: Path, tmp_path: Path):
    with started(command(*SMOKE, *LAUNCHER), cwd=tmp_path, env=slurm, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 300
        while not has_steps(2)(tmp_path):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        subprocess.run(["scancel", "--user=root", "--signal=KILL"], env=slurm, check=True)
        process.wait(timeout=300)
    told = subprocess.run(
        command(*SMOKE, *LAUNCHER), cwd=tmp_path, env=slurm, capture_output=True, text=True, timeout=600, check=False
    )
    assert told.returncode == 0, told.stderr
    assert left_behind(tmp_path) == left_behind(calm_sweep) and len(left_behind(tmp_path)) == 2


def test_a_job_that_is_preempted_goes_back_to_the_queue_and_ends_in_the_same_bits(
    slurm: dict[str, str], undisturbed: Path, tmp_path: Path
):
    """SLURM sends a preempted job SIGTERM; the command that waits for the job notices nothing."""
    preempted = (*PLAIN, "-m", "seed=0", *LAUNCHER)
    with started(command(*preempted), cwd=tmp_path, env=slurm, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 300
        while not has_steps(2)(tmp_path):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        subprocess.run(["scancel", "--user=root", "--signal=TERM"], env=slurm, check=True)
        stderr = process.communicate(timeout=400)[1]
    assert process.returncode == 0, stderr
    messages = "".join(path.read_text() for path in tmp_path.glob("outputs/sweeps/.submitit/*/*_log.err"))
    assert "stopped by SIGTERM; run the same command to resume; SLURM has queued this job again" in messages
    assert "resuming from step" in messages
    assert left_behind(tmp_path) == left_behind(undisturbed)


def test_a_run_over_two_nodes_is_the_one_of_two_processes(slurm: dict[str, str], two_ranks: Path, tmp_path: Path):
    nodes = ("hydra.launcher.nodes=2", "hydra.launcher.tasks_per_node=1")
    asked = ("sweep=smoke", "selector=sparse_uniform", *ZERO, *LAUNCHER, *nodes)
    told = subprocess.run(
        command(*asked), cwd=tmp_path, env=slurm, capture_output=True, text=True, timeout=900, check=False
    )
    assert told.returncode == 0, told.stderr
    assert left_behind(tmp_path) == left_behind(two_ranks) and len(left_behind(tmp_path)) == 1
    said = "".join(path.read_text() for path in tmp_path.glob("outputs/sweeps/.submitit/*/*_log.err"))
    assert "node 1 of 2: joins" in said
