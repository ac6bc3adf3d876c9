"""``slurm-power ca``: the site's own certificate authority, on the controller's host."""

from pathlib import Path

import click

from slurm_power import clock
from slurm_power.cli.command_group import CommandGroup
from slurm_power.cli.commands.connection import ask, json_option, print_json, socket_option

DEFAULT_DIRECTORY = Path("/etc/slurm-power/tls")
directory_option = click.option(
    "--directory",
    type=click.Path(path_type=Path),
    default=DEFAULT_DIRECTORY,
    show_default=True,
    help="Where it lies: controller.tls_directory of site.toml.",
)
host_option = click.option(
    "--host",
    "hosts",
    multiple=True,
    required=True,
    metavar="NAME",
    help="Name or address under which nodes reach powerctld; may be given several times.",
)


@click.group(cls=CommandGroup)
def ca() -> None:
    """Manage the certificates of nodes and controller.

    Copy its ca.pem to every node (ca_file in node.toml). The other files never leave the controller's host.
    """


@ca.command()
@directory_option
@host_option
@click.option("--site", default="site", show_default=True, help="The site's name, for the certificate.")
def init(directory: Path, hosts: tuple[str, ...], site: str) -> None:
    """Make a new authority and the controller's certificate. Overwrites nothing."""
    from slurm_power.controller.sensing.authority import AuthorityError, make_authority  # noqa: PLC0415  # heavy

    try:
        make_authority(directory, site, list(hosts), clock.now())
    except (AuthorityError, OSError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    click.echo(f"{directory}/ca.pem: copy it to every node as ca_file; the keys beside it stay here")


@ca.command()
@directory_option
@host_option
def renew(directory: Path, hosts: tuple[str, ...]) -> None:
    """Renew the controller's own certificate.

    By the same authority; restart powerctld afterwards.
    """
    from slurm_power.controller.sensing.authority import AuthorityError, make_server_certificate  # noqa: PLC0415  # heavy

    try:
        make_server_certificate(directory, list(hosts), clock.now())
    except (AuthorityError, OSError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    click.echo("made; restart powerctld")


@ca.command()
@directory_option
@json_option
def show(directory: Path, as_json: bool) -> None:
    """Show the certificates and how long they last."""
    from slurm_power.controller.sensing.authority import AuthorityError, describe  # noqa: PLC0415  # heavy

    try:
        rows = describe(directory)
    except AuthorityError as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        print_json(
            {"files": [{"file": file, "subject": who, "ends": ends.isoformat()} for file, who, ends in rows]}
        )
        return
    for file, who, ends in rows:
        left_days = (ends - clock.now()).days
        click.echo(f"{file:<12} {who:<32} until {ends:%Y-%m-%d} ({left_days} days)")


@ca.command()
@click.argument("node")
@socket_option
@json_option
def forget(node: str, socket_path: Path | None, as_json: bool) -> None:
    """Forget the pinned key of NODE, and hang up on it.

    For a node that was installed anew, or is not to be trusted.
    """
    answer = ask({"op": "forget_node", "node": node}, socket_path)
    if as_json:
        print_json(answer)
    else:
        click.echo(f"the key of {node} is forgotten; the next one it comes with is pinned")
