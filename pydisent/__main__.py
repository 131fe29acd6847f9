"""`python -m pydisent` is the command line."""

import sys


def main() -> int:
    """Run the command line; `info` also where it is not fully installed."""
    if sys.argv[1:] == ["info"]:
        from pydisent._info import info

        info()
        return 0
    from pydisent._extras import MissingPackageError, install_command

    try:
        from pydisent import cli
    except MissingPackageError as error:
        needs = str(error).partition(":")[0]
        print(f"pydisent: {needs}: {install_command('all')}", file=sys.stderr)
        return 2
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
