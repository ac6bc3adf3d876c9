"""``slurm-power web``: a link to the dashboard for whoever asks, and tokens for programs."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurm_power import clock
from slurm_power.cli.command_group import CommandGroup
from slurm_power.cli.commands.connection import ask, json_option, print_json, printable, socket_option
from slurm_power.cli.commands.quantities import Duration, duration_text
from slurm_power.model.role import Role

if TYPE_CHECKING:
    from slurm_power.web.keys import Keys, Token

_LONGEST_TOKEN_SECONDS = 366 * 86_400.0

config_option = click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    default=Path("/etc/slurm-power/site.toml"),
    show_default=True,
    help="The site's configuration.",
)


@click.group(cls=CommandGroup)
def web() -> None:
    """Log in to the dashboard, and make tokens for programs."""


@web.command()
@socket_option
@json_option
def login(socket_path: Path | None, as_json: bool) -> None:
    """Print a link to the dashboard that logs you in. It works once, within a minute."""
    answer = ask({"op": "web_login"}, socket_path)
    if answer["url"] is None:
        raise click.ClickException("this site has no dashboard: [web] of site.toml has no listen")
    if as_json:
        print_json(answer)
        return
    answer = printable(answer)
    click.echo(answer["url"])
    seconds = duration_text(answer["valid_seconds"])
    click.echo(f"for {answer['user']}, once, within {seconds}: do not pass it on", err=True)


@web.command()
@click.argument("name")
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True)
@click.option("--for", "seconds", type=Duration(), required=True, help="How long it holds: 90d.")
@config_option
@json_option
def token(name: str, role: str, seconds: float, file: Path, as_json: bool) -> None:
    """Make a token for a program that speaks for NAME, and print it this once.

    The program sends it as `Authorization: Bearer TOKEN`. With --role user it sees the jobs of user NAME.
    """
    from slurm_power.controller.answers.behalf import user_name  # noqa: PLC0415  # where it is needed
    from slurm_power.web.keys import KeysError  # noqa: PLC0415  # where it is needed

    problems = []
    if not user_name(name):
        problems.append("NAME: letters, digits and . _ - @, at most 64")
    if not 0.0 < seconds <= _LONGEST_TOKEN_SECONDS:
        problems.append("--for: between a second and a year")
    if problems:
        raise click.UsageError("; ".join(problems))
    now_seconds = clock.now().timestamp()
    try:
        secret, made = _keys(file).make_token(name, Role(role), now_seconds=now_seconds, seconds=seconds)
    except KeysError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        print_json({"token": secret, **_row(made)})
        return
    click.echo(secret)
    ends = _moment(made.ends_seconds)
    click.echo(f"token {made.token_id} for {name}, {role}, until {ends}: it is not shown again", err=True)


@web.command()
@config_option
@json_option
def tokens(file: Path, as_json: bool) -> None:
    """List the tokens of programs, without what proves them."""
    from slurm_power.web.keys import KeysError  # noqa: PLC0415  # where it is needed

    try:
        found = _keys(file).tokens(clock.now().timestamp())
    except KeysError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        print_json({"tokens": [_row(one) for one in found]})
        return
    for one in found:
        click.echo(f"{one.token_id}  {one.role:8}  until {_moment(one.ends_seconds)}  {one.name}")
    if not found:
        click.echo("no tokens")


@web.command()
@click.argument("token_ids", nargs=-1)
@click.option("--sessions-of", "name", help="End all browser sessions of a user as well.")
@config_option
def revoke(token_ids: tuple[str, ...], name: str | None, file: Path) -> None:
    """End tokens by the ids that `tokens` lists; they stop within seconds."""
    from slurm_power.web.keys import KeysError  # noqa: PLC0415  # where it is needed

    if not token_ids and name is None:
        raise click.UsageError("name tokens, or a user with --sessions-of")
    try:
        keys = _keys(file)
        unknown = [token_id for token_id in token_ids if not keys.revoke(token_id)]
        ended = 0 if name is None else keys.end_sessions_of(name)
    except KeysError as error:
        raise click.ClickException(str(error)) from None
    if name is not None:
        click.echo(f"{ended} sessions of {name} ended")
    if unknown:
        raise click.UsageError(f"there is no token {', '.join(unknown)}")


def _keys(file: Path) -> "Keys":
    """The keys of the site's powerweb; raises KeysError, or click.ClickException for a bad file."""
    from slurm_power.config import ConfigError, load_site  # noqa: PLC0415  # heavy
    from slurm_power.web.keys import FILE_NAME, Keys  # noqa: PLC0415  # where it is needed

    try:
        config = load_site(file)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    return Keys(config.controller.state_directory / FILE_NAME)


def _row(one: "Token") -> dict[str, str]:
    return {
        "token_id": one.token_id,
        "name": one.name,
        "role": one.role.value,
        "made": _moment(one.made_seconds),
        "ends": _moment(one.ends_seconds),
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
