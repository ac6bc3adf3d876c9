"""What a script can be: on input, in a file, with directives of every shape, or not there at all."""

from collections.abc import Iterator

from tests.compat.case import SCRIPT, Case, held_script, script

WRITABLE_TEXT = b"just words\n"
MEGABYTE = 1 << 20
FOLDER_ON_INPUT = "Python itself refuses to start with a folder on its standard input"


def cases() -> Iterator[Case]:
    """Make all of them."""
    yield from _places()
    yield from _directives()
    yield from _odd_scripts()
    yield from _wrapped()
    yield from _arguments()


def _places() -> Iterator[Case]:
    yield Case(name="on input", stdin=SCRIPT)
    yield Case(name="on input, with arguments after --", words=("--", "job.sh", "a"), stdin=SCRIPT)
    yield Case(name="a dash for a name", words=("-",), stdin=SCRIPT)
    yield Case(name="in the folder", words=("job.sh",))
    yield Case(name="with its folder", words=("./job.sh",))
    yield Case(name="below", words=("sub/job.sh",), files={"sub/job.sh": SCRIPT})
    yield Case(name="absolute", words=("/bin/ls",))
    yield Case(name="on PATH", words=("ls", "-l"))
    yield Case(name="on PATH and in the folder", words=("ls",), files={"ls": SCRIPT})
    yield Case(
        name="on a PATH of its own",
        words=("tool",),
        files={"bin/tool": SCRIPT},
        modes={"bin/tool": 0o755},
        through='PATH="$PWD/bin:$PATH" exec "$@"',
    )
    yield Case(
        name="on PATH, not executable",
        words=("tool",),
        files={"bin/tool": SCRIPT},
        through='PATH="$PWD/bin:$PATH" exec "$@"',
    )
    yield Case(name="missing", words=("missing.sh",))
    yield Case(name="an empty name", words=("",))
    yield Case(name="a folder", words=("sub",), files={"sub/job.sh": SCRIPT})
    yield Case(name="the folder itself", words=(".",))
    yield Case(name="unreadable", words=("job.sh",), files={"job.sh": SCRIPT}, modes={"job.sh": 0o000})
    yield Case(name="a name that is an option's", words=("--", "--hold"), files={"--hold": SCRIPT})
    yield Case(name="a name with blanks", words=("my job.sh",), files={"my job.sh": SCRIPT})
    yield Case(name="a name with =", words=("a=b.sh",), files={"a=b.sh": SCRIPT})
    yield Case(name="a name with a quote", words=("it's.sh",), files={"it's.sh": SCRIPT})
    yield Case(name="a name of other letters", words=("größe.sh",), files={"größe.sh": SCRIPT})
    yield Case(
        name="a named pipe", words=("pipe",), through='rm -f pipe; mkfifo pipe; cat job.sh >pipe & exec "$@"'
    )
    yield Case(name="/dev/stdin", words=("/dev/stdin",), stdin=SCRIPT)
    yield Case(name="a link", words=("link",), through='ln -sf job.sh link; exec "$@"')
    yield Case(name="a dangling link", words=("link",), through='ln -sf nowhere link; exec "$@"')
    yield Case(name="a here-document", through='exec "$@" <job.sh')
    yield Case(name="nothing on input", stdin=b"")
    yield Case(name="input closed", through='exec "$@" <&-')
    yield Case(name="input closed, script named", words=("job.sh",), through='exec "$@" <&-')
    yield Case(name="input a folder", through='exec "$@" <.', differs=FOLDER_ON_INPUT)
    yield Case(
        name="input a folder, script named",
        words=("job.sh",),
        through='exec "$@" <.',
        differs=FOLDER_ON_INPUT,
    )
    yield Case(name="input is /dev/null", through='exec "$@" </dev/null')


def _directive(name: str, *lines: str | bytes) -> Iterator[Case]:
    """A script with these lines, once as a file with an argument."""
    yield Case(
        name=f"directives: {name}", words=("job.sh", "x"), held=False, files={"job.sh": held_script(*lines)}
    )


def _directives() -> Iterator[Case]:
    yield from _directive("several on a line", "#SBATCH -J several --nice=3 -n 2")
    yield from _directive("a comment after", "#SBATCH -J noted # --nice=5")
    yield from _directive("a comment without blank", "#SBATCH -J noted#5")
    yield from _directive("double quotes", '#SBATCH --comment="two words"')
    yield from _directive("single quotes", "#SBATCH --comment='two words'")
    yield from _directive("quotes in quotes", "#SBATCH --comment='a \"b\" c'")
    yield from _directive("an open quote", '#SBATCH --comment="open')
    yield from _directive("a backslash", r"#SBATCH --comment=two\ words")
    yield from _directive("tabs", "#SBATCH\t-J\ttabbed\t")
    yield from _directive("two spaces", "#SBATCH   --job-name=spaced   ")
    yield from _directive("no space", "#SBATCH--job-name=glued")
    yield from _directive("indented", " #SBATCH --job-name=indented")
    yield from _directive("two hashes", "##SBATCH --job-name=out")
    yield from _directive("lower case", "#sbatch --job-name=lower")
    yield from _directive("after other comments", "# a comment", "", "#", "#SBATCH -J after")
    yield from _directive("after a command", "true", "#SBATCH --job-name=late")
    yield from _directive("after a blank line", "", "#SBATCH --job-name=blank")
    yield from _directive("the last counts", "#SBATCH -J one", "#SBATCH -J two")
    yield from _directive("abbreviated", "#SBATCH --job-n=short --nic=4")
    yield from _directive("unknown", "#SBATCH --unknown-thing=1")
    yield from _directive("a bad value", "#SBATCH --nodes=many")
    yield from _directive("no value", "#SBATCH --job-name")
    yield from _directive("a word that is no option", "#SBATCH word --nice=3")
    yield from _directive("empty", "#SBATCH")
    yield from _directive("non-UTF-8", b"#SBATCH --comment=\xff\xfe\x80")
    yield from _directive("other letters", "#SBATCH --comment=größe")
    yield from _directive("very long", "#SBATCH --comment=" + "x" * 3000)
    yield from _directive("a great many", *[f"#SBATCH --nice={number}" for number in range(500)])
    yield from _directive("#PBS", "#PBS -N from_pbs", "#PBS -l walltime=00:05:00")
    yield from _directive("#PBS unknown", "#PBS -Z what")
    yield from _directive("#BSUB", "#BSUB -J from_lsf")
    yield from _directive("#PBS ignored", "#SBATCH --ignore-pbs", "#PBS -N from_pbs")
    yield from _directive("an array", "#SBATCH --array=1-3%1")
    yield from _directive("parsable", "#SBATCH --parsable")
    yield from _directive("quiet", "#SBATCH --quiet")
    yield from _directive("help", "#SBATCH --help")
    yield from _directive("version", "#SBATCH --version")
    yield from _directive("wrap", "#SBATCH --wrap=true")
    yield from _directive("export", "#SBATCH --export=HOME,FRESH='a b'")
    yield Case(
        name="directives: the command line wins",
        words=("--job-name=typed", "job.sh"),
        files={"job.sh": script("#SBATCH --job-name=written")},
    )
    yield Case(
        name="directives: the variable loses to the script's",
        words=("job.sh",),
        files={"job.sh": script("#SBATCH --time=7")},
        environment={"SBATCH_TIMELIMIT": "9", "SBATCH_PARTITION": "main"},
    )
    yield Case(
        name="directives: before the interpreter",
        words=("job.sh",),
        files={"job.sh": b"#SBATCH -J x\n#!/bin/sh\n"},
    )


def _odd_scripts() -> Iterator[Case]:
    texts = {
        "empty": b"",
        "one newline": b"\n",
        "no interpreter": b"echo hello\n",
        "words": WRITABLE_TEXT,
        "only an interpreter": b"#!/bin/sh",
        "an interpreter that is not there": script("true", shebang="#!/no/such/interpreter"),
        "an interpreter with arguments": script("true", shebang="#!/usr/bin/env -S sh -e"),
        "blank before the interpreter": script("true", shebang="#! /bin/sh"),
        "python": script("import sys", shebang="#!/usr/bin/env python3"),
        "from DOS": script("true", end=b"\r\n"),
        "from DOS, half": b"#!/bin/sh\n#SBATCH -J dos\r\ntrue\n",
        "from old Macs": script("true", end=b"\r"),
        "with a mark": b"\xef\xbb\xbf#!/bin/sh\ntrue\n",
        "UTF-16": "#!/bin/sh\ntrue\n".encode("utf-16"),
        "with zero bytes": b"#!/bin/sh\necho \0 zero\n",
        "a program": b"\x7fELF\x02\x01\x01\0\0\0",
        "non-UTF-8": script(b"echo \xff\xfe\x80"),
        "no last newline": b"#!/bin/sh\ntrue",
        "long lines": script("# " + "y" * 100_000),
        "a megabyte": script(*["# " + "z" * 1021] * 1024),
        "over the limit": script(*["# " + "z" * 1021] * 5 * 1024),
    }
    for name, text in texts.items():
        yield Case(name=f"{name}, a file", words=("job.sh",), files={"job.sh": text})
        if len(text) < MEGABYTE:
            yield Case(name=f"{name}, on input", stdin=text)


def _wrapped() -> Iterator[Case]:
    wrapped: dict[str, str | bytes] = {
        "a word": "hostname",
        "a line": "echo $HOME && date > 'a b' | cat",
        "quotes": """echo "it's" 'two "words"' \\n""",
        "several lines": "echo one\necho two\n",
        "empty": "",
        "a directive": "#SBATCH --nice=3",
        "non-UTF-8": b"echo \xff\xfe",
        "a dash": "-n 2",
        "long": "x" * 100_000,
    }
    for name, word in wrapped.items():
        glued = b"--wrap=" + (word if isinstance(word, bytes) else word.encode())
        yield Case(name=f"wrap: {name}", words=(glued,))
    yield Case(name="wrap: separate", words=("--wrap", "hostname"))
    yield Case(name="wrap: without", words=("--wrap",))
    yield Case(name="wrap: and a script", words=("--wrap=true", "job.sh"))
    yield Case(name="wrap: and arguments", words=("--wrap=true", "--", "a"))
    yield Case(name="wrap: and input", words=("--wrap=true",), stdin=SCRIPT)
    yield Case(name="wrap: twice", words=("--wrap=true", "--wrap=false"))
    yield Case(name="wrap: abbreviated", words=("--wra", "hostname", "-J", "x"))
    yield Case(name="wrap: quiet", words=("-Q", "--wrap=true"))


def _arguments() -> Iterator[Case]:
    arguments: dict[str, tuple[str | bytes, ...]] = {
        "none": (),
        "plain": ("one", "two"),
        "empty": ("", "", "last"),
        "quotes": ("it's", '"quoted"', "$HOME", "`id`", "\\"),
        "newlines": ("one\ntwo", "\n"),
        "blanks and tabs": (" a ", "\t"),
        "options": ("--hold", "-N2", "--nodes", "3", "--help", "--version"),
        "ours": ("--flex=3", "--workload", "training", "--explain"),
        "dashes": ("-", "--", "---"),
        "colons": (":", "-N1", ":"),
        "non-UTF-8": (b"\xff\xfe", b"a\x80b"),
        "other letters": ("größe", "名前"),
        "a hundred": tuple(str(number) for number in range(100)),
        "long": ("x" * 100_000,),
    }
    for name, words in arguments.items():
        yield Case(name=f"arguments: {name}", words=("job.sh", *words))
