"""`python -m pydisent` is the command line."""

import sys


def main() -> int:
    """Run the command line; `info` works even without the optional packages."""
    try:
        return _main()
    except KeyboardInterrupt:  # while torch is being imported
        print("pydisent: interrupted", file=sys.stderr)
        return 130


def _main() -> int:
    if sys.argv[1:] == ["info"]:
        return _info()
    from pydisent._extras import MissingPackageError, install_command

    try:
        from pydisent import cli
    except MissingPackageError as error:
        needs = str(error).partition(":")[0]
        print(f"pydisent: {needs}: {install_command('all')}", file=sys.stderr)
        return 2
    return cli.main()


def _info() -> int:
    from pydisent._info import info

    try:
        info()
        sys.stdout.flush()
    except OSError as error:  # a closed pipe, a full disk
        sys.stdout = None  # or the interpreter would flush it again at exit
        print(f"pydisent: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
