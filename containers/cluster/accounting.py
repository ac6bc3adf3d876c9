"""Give a lab its accounting database, its accounts, users and qualities of service."""

from containers.cluster.lab import Lab
from containers.cluster.layout import QOS, USERS

INSTALL_SECONDS = 120.0


def create_database(lab: Lab) -> None:
    """Create MariaDB's own tables, before the server first starts."""
    argv = [
        "mariadb-install-db",
        "--no-defaults",
        "--user=root",
        f"--datadir={lab.run_directory / 'database'}",
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
    ]
    lab.run(argv, timeout_seconds=INSTALL_SECONDS, on_host=True)


def create_database_user(lab: Lab) -> None:
    """Create slurmdbd's database and user in the running server."""
    sql = (
        "create database slurm_acct_db; create user slurm@localhost identified by 'lab'; "
        "grant all on slurm_acct_db.* to slurm@localhost;"
    )
    argv = ["mariadb", "--no-defaults", "-uroot", f"--socket={lab.layout.database_socket}"]
    lab.run(argv, stdin=sql, on_host=True)


def create_accounts(lab: Lab) -> None:
    """Create accounts, QOS and users; the cluster has registered itself."""
    names = ",".join(QOS)
    lines = [f"add qos {name}" for name in QOS if name != "normal"]  # slurmdbd makes 'normal' itself
    for user in USERS:
        lines.append(f"add account {user.account} cluster=lab description={user.account} organization=lab")
        lines.append(f"add user {user.name} cluster=lab account={user.account} qos={names} defaultqos=normal")
    lines.append(f"modify user root set qos={names}")
    lab.run(["sacctmgr", "--immediate", "--quiet"], stdin="\n".join(lines) + "\n")
