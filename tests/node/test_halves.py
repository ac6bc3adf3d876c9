"""The two halves of powerd: what one of them may do, and what is left when the other is gone."""

import os
import pwd
import signal
import socket
import time
from pathlib import Path

from containers.faults.controller import FakeController
from containers.faults.node import NodeBench, ask, wait_until
from tests.node.test_daemon import capped


def status_of(pid: int, field: str) -> list[str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line for line in lines if line.startswith(f"{field}:")).split()[1:]


def test_a_killed_front_is_replaced_and_no_lease_is_touched(
    bench: NodeBench, controller: FakeController
) -> None:
    powerd = bench.start()
    capped(bench, controller, ttl_seconds=60.0)
    first = bench.front(powerd)
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: bench.front(powerd) not in (None, first), "another front")
    wait_until(lambda: controller.connections == 2, "its connection")
    assert bench.cap(0) == 400.0
    wait_until(lambda: bool(bench.status().get("leases")), "its knowledge of the lease")
    controller.send({"type": "release", "lease_ids": ["lease-0"]})
    wait_until(lambda: bench.cap(0) != 400.0, "the release")


def test_leases_end_at_their_time_while_the_front_hangs(bench: NodeBench, controller: FakeController) -> None:
    powerd = bench.start()
    previous_watts = capped(bench, controller, ttl_seconds=1.5)
    front = bench.front(powerd)
    assert front is not None
    os.kill(front, signal.SIGSTOP)
    wait_until(lambda: bench.cap(0) == previous_watts, "the end of the lease", seconds=3.0)
    os.kill(front, signal.SIGCONT)
    wait_until(lambda: bool(controller.said("lease_event", event="expired")), "the news of it")


def test_a_keeper_that_hangs_is_killed_and_its_caps_restored(
    bench: NodeBench, controller: FakeController
) -> None:
    powerd = bench.start()
    previous_watts = capped(bench, controller, ttl_seconds=1.5)
    assert bench.watchdog(powerd) is not None
    powerd.send_signal(signal.SIGSTOP)
    wait_until(lambda: bench.cap(0) == previous_watts, "the restoration", seconds=14.0)
    assert powerd.wait(1) == -signal.SIGKILL


def test_callers_wait_in_the_socket_while_a_new_front_starts(bench: NodeBench) -> None:
    powerd = bench.start()
    first = bench.front(powerd)
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert ask(bench.socket, {"op": "prolog", "job_id": "17", "gpu_slots": [0]}, seconds=8.0)["ok"]


def test_the_front_has_no_privileges_and_the_hooks_work(bench: NodeBench) -> None:
    bench.settings["user"] = "nobody"
    powerd = bench.start()
    front = bench.front(powerd)
    assert front is not None
    account = pwd.getpwnam("nobody")
    assert status_of(front, "Uid") == [str(account.pw_uid)] * 4
    assert status_of(front, "Gid") == [str(account.pw_gid)] * 4
    assert status_of(front, "Groups") == []
    assert int(status_of(front, "CapEff")[0], 16) == 0
    assert ask(bench.socket, {"op": "prolog", "job_id": "17", "gpu_slots": [0]})["ok"]
    wait_until((bench.state / "front" / "jobs.json").exists, "the front's own file")
    assert bench.state.stat().st_uid == 0
    powerd.terminate()
    assert powerd.wait(10) == 0
    assert not bench.socket.exists()


def test_the_front_reaches_its_folder_whatever_the_umask(
    bench: NodeBench, controller: FakeController
) -> None:
    """The systemd unit has UMask=0077."""
    bench.settings["user"] = "nobody"
    bench.settings["ca_file"] = str(bench.folder / "ca.pem")
    (bench.folder / "ca.pem").write_bytes(controller.ca_file.read_bytes())
    bench.wrapper = ["sh", "-c", 'umask 0077; exec "$@"', "sh"]
    bench.start()
    wait_until(lambda: controller.connected, "the connection")
    assert bench.state.stat().st_mode & 0o777 == 0o711


def test_another_user_takes_over_what_the_front_had(bench: NodeBench, controller: FakeController) -> None:
    bench.settings["ca_file"] = str(bench.folder / "ca.pem")
    (bench.folder / "ca.pem").write_bytes(controller.ca_file.read_bytes())
    powerd = bench.start()
    wait_until(lambda: controller.connected, "the connection")
    assert ask(bench.socket, {"op": "prolog", "job_id": "17", "gpu_slots": [0]})["ok"]
    wait_until((bench.state / "front" / "jobs.json").exists, "the job in its file")
    powerd.terminate()
    assert powerd.wait(10) == 0
    key = (bench.state / "front" / "node.key").read_bytes()

    # What may have been put there to get at files of root's stays root's.
    precious = bench.folder / "precious"
    precious.write_text("root's")
    (bench.state / "front" / "linked").hardlink_to(precious)
    (bench.state / "front" / "pointing").symlink_to(precious)
    bench.settings["user"] = "nobody"
    powerd = bench.start()
    wait_until(lambda: controller.connections == 2, "the connection with the same key")
    assert [job["job_id"] for job in bench.status()["jobs"]] == ["17"]
    assert (bench.state / "front" / "node.key").read_bytes() == key
    assert precious.stat().st_uid == 0
    powerd.terminate()
    assert powerd.wait(10) == 0

    del bench.settings["user"]
    bench.start()
    wait_until(lambda: controller.connections == 3, "the connection of root's front")
    owners = {path.name: path.lstat().st_uid for path in (bench.state / "front").iterdir()}
    assert owners["node.key"] == owners["jobs.json"] == 0
    assert (bench.state / "front").stat().st_uid == 0


def test_no_half_listens_on_tcp(bench: NodeBench, controller: FakeController) -> None:
    powerd = bench.start()
    wait_until(lambda: controller.connected, "the connection")
    watchdog, front = bench.watchdog(powerd), bench.front(powerd)
    listening = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if table.startswith("udp") or words[3] == "0A":
                listening.add(f"socket:[{words[9]}]")
    for pid in (powerd.pid, watchdog, front):
        held = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
        assert not held & listening


def test_systemd_is_told_when_what_was_left_is_home(bench: NodeBench, controller: FakeController) -> None:
    powerd = bench.start()
    previous_watts = capped(bench, controller, ttl_seconds=60.0)
    watchdog = bench.watchdog(powerd)
    assert watchdog is not None
    os.kill(powerd.pid, signal.SIGSTOP)
    os.kill(watchdog, signal.SIGKILL)
    os.kill(powerd.pid, signal.SIGKILL)
    powerd.wait()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(bench.folder / "notify"))
        manager.settimeout(10.0)
        bench.environment["NOTIFY_SOCKET"] = str(bench.folder / "notify")
        again = bench.start(wait=False)
        first = manager.recv(100)
        while first == b"WATCHDOG=1":
            first = manager.recv(100)
        assert first == b"READY=1"
        assert bench.cap(0) == previous_watts
        assert manager.recv(100) == b"WATCHDOG=1"
        again.terminate()
        deadline = time.monotonic() + 5.0
        while manager.recv(100) != b"STOPPING=1":
            assert time.monotonic() < deadline
